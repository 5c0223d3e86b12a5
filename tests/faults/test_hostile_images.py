"""Images of every awkward kind: the pixels that Pillow's and torchvision's users expect, or a row with a reason."""

from __future__ import annotations

import io
import resource
import struct
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from child_process import in_child
from PIL import Image
from tiny_run import run_recipe, tiny_recipe, write_images, write_quantizer

from dad_datasets.decoding import UndecodableImageError, decode_image
from dad_datasets.folder import LocalFolder
from dad_datasets.index import read_index
from dad_datasets.summary import finished_units

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)
ORIENTATION = 0x0112
LARGE = 2**27


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, height: int, *, extra: bytes = b"", data: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@cache
def zeros_deflated() -> bytes:
    """A few hundred kilobytes that become LARGE, made piece by piece: the test itself must stay small."""
    packer = zlib.compressobj(1)
    return b"".join(packer.compress(bytes(2**20)) for _ in range(LARGE // 2**20)) + packer.flush()


def animated_webp(width: int, height: int) -> bytes:
    """One frame of 4 x 4 pixels on a canvas that claims to be larger."""
    frame = encoded(Image.new("RGB", (4, 4)), "WEBP", lossless=True)[12:]
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    placed = bytes(6) + (3).to_bytes(3, "little") * 2 + bytes(4) + frame
    parts = [(b"VP8X", bytes([2, 0, 0, 0]) + size), (b"ANIM", bytes(6)), (b"ANMF", placed)]
    body = b"WEBP" + b"".join(name + struct.pack("<I", len(content)) + content for name, content in parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def gif(screen: int, frame: int) -> bytes:
    header = b"GIF89a" + struct.pack("<HHBBB", screen, screen, 0, 0, 0)
    return header + b"\x2c" + struct.pack("<HHHHB", 0, 0, frame, frame, 0) + b"\x02\x02\x44\x01\x00\x3b"


def bmp(side: int) -> bytes:
    return b"BM" + bytes(8) + struct.pack("<IIiiHHIIiiII", 54, 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0)


BOMBS: dict[str, Callable[[], bytes]] = {
    "png": lambda: png(60_000, 60_000, data=zeros_deflated()),
    "png text": lambda: png(4, 4, extra=chunk(b"zTXt", b"k\0\0" + zeros_deflated())),
    "png profile": lambda: png(4, 4, extra=chunk(b"iCCP", b"k\0\0" + zeros_deflated())),
    "webp canvas": lambda: animated_webp(16_384, 16_384),
    "webp canvas of 2^24": lambda: animated_webp(2**24, 2**24),
    "gif screen": lambda: gif(65_535, 1),
    "gif frame": lambda: gif(1, 65_535),
    "bmp": lambda: bmp(20_000),
    "ppm": lambda: b"P6 100000 100000 255\n",
}


def growth_mb(content: bytes) -> tuple[str, float]:
    """The reason, and by how much the highest memory use of this process rose."""
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        decode_image(content)
        reason = ""
    except UndecodableImageError as error:
        reason = str(error)
    return reason, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) / 1024


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_a_reason_and_takes_no_memory(name: str) -> None:
    content = BOMBS[name]()
    [(reason, grown_mb)] = in_child(lambda: growth_mb(content))
    assert reason.startswith("decompression bomb") or reason == "corrupt"
    assert grown_mb < 60, f"{grown_mb} MB for a file of {len(content):,} bytes"


def test_the_growth_would_be_seen() -> None:
    content = encoded(Image.new("L", (8_000, 8_000)), "BMP")
    [(reason, grown_mb)] = in_child(lambda: growth_mb(content))
    assert (reason, grown_mb > 100) == ("", True)


def test_data_beyond_the_image_is_left_alone() -> None:
    rows = bytes(4 * 13)
    image = decode_image(png(4, 4, data=zlib.compress(rows + bytes(10**7))))
    assert np.asarray(image).max() == 0


@pytest.mark.parametrize("name", ["photo.png", "photo.webp", "photo.gif", "photo.bmp"])
def test_the_content_says_the_type(name: str) -> None:
    content = encoded(Image.fromarray(PIXELS), "TIFF")  # whatever `name` says: sources read it, decoding does not
    assert np.array_equal(np.asarray(decode_image(content)), PIXELS), name


def test_16_bit_colour_keeps_its_high_byte() -> None:
    deep = RNG.integers(0, 2**16, (5, 7, 3), dtype=np.uint16)
    content = cv2.imencode(".png", deep[:, :, ::-1])[1].tobytes()
    assert np.array_equal(np.asarray(decode_image(content)), deep >> 8)


@pytest.mark.parametrize(("kind", "dtype"), [("PNG", np.uint16), ("TIFF", np.uint16), ("TIFF", np.float32)])
def test_deep_greyscale_is_a_reason(kind: str, dtype: type[np.generic]) -> None:
    """What is white in it, only its maker knows: many hold 12 bits, which any fixed scale would turn black."""
    with pytest.raises(UndecodableImageError, match=r"^unsupported pixel type \([IF]"):
        decode_image(encoded(Image.fromarray(np.ones((4, 4), dtype)), kind))


def test_cmyk_is_mixed_as_pillow_mixes_it() -> None:
    inks = RNG.integers(0, 256, (6, 9, 4), dtype=np.uint8)
    cyan_magenta_yellow, black = inks[..., :3].astype(float), inks[..., 3:].astype(float)
    expected = (255 - cyan_magenta_yellow) * (255 - black) / 255
    found = np.asarray(decode_image(encoded(Image.fromarray(inks, "CMYK"), "TIFF")))
    assert np.abs(found - expected).max() <= 1


def test_cmyk_of_adobe_is_not_inverted() -> None:
    paper = encoded(Image.new("CMYK", (8, 8), (0, 0, 0, 0)), "JPEG", quality=95)
    assert b"Adobe" in paper
    assert np.asarray(decode_image(paper)).min() >= 253


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_palette_gives_its_colours(kind: str) -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.putdata([2, 0, 1])
    content = encoded(image, kind, transparency=0)
    assert np.asarray(decode_image(content)).tolist() == [[[70, 80, 90], [10, 20, 30], [40, 50, 60]]]


def test_the_first_frame_of_an_animated_png_counts() -> None:
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("white", "black")]
    content = encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])
    assert np.asarray(decode_image(content)).min() == 255


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", [6, 8, 99, 0])
def test_exif_turns_every_type_and_nonsense_turns_none(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    image = decode_image(encoded(Image.fromarray(PIXELS), kind, exif=exif))
    assert image.size == ((6, 9) if orientation in (6, 8) else (9, 6))


def test_in_a_run_each_is_a_row_with_its_reason(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images")
    photo = encoded(Image.fromarray(RNG.integers(0, 256, (40, 40, 3), dtype=np.uint8)), "JPEG")
    turned = Image.Exif()
    turned[ORIENTATION] = 6
    hostile = {
        "bomb.png": (png(60_000, 60_000, data=b"x"), "decompression bomb"),
        "truncated.jpg": (photo[: len(photo) // 2], "truncated"),
        "page.jpg": (b"<html>", "not an image"),
        "drawing.png": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
        "script.gif": (encoded(Image.new("RGB", (4, 4)), "EPS"), "not an image"),
        "empty.webp": (b"", "image is empty"),
        "deep.png": (encoded(Image.fromarray(np.ones((20, 20), np.uint16)), "PNG"), "unsupported pixel type (I;16)"),
        "other.png": (photo, ""),
        "print.jpg": (encoded(Image.new("CMYK", (20, 20)), "JPEG"), ""),
        "palette.png": (encoded(Image.new("P", (20, 20)), "PNG"), ""),
        "moving.gif": (
            encoded(Image.new("L", (20, 20)), "GIF", save_all=True, append_images=[Image.new("L", (20, 20), 9)]),
            "",
        ),
        "turned.jpg": (encoded(Image.fromarray(PIXELS), "JPEG", exif=turned), ""),
    }
    for name, (content, _) in hostile.items():
        (images / "class0" / name).write_bytes(content)
    recipe = tiny_recipe(images, write_quantizer(tmp_path / "q")) | {"max_failure_rate": 1.0}
    recipe["views"] = {"size": 16}
    complete, screen = run_recipe(recipe, tmp_path / "out")
    assert complete, screen
    folder = LocalFolder(tmp_path / "out")
    rows = [row for unit in finished_units(folder) for row in read_index(folder, unit).to_pylist()]
    found = {row["source_key"]: (row["status"], row["reason"]) for row in rows}
    assert len(found) == 24 + len(hostile)
    for name, (_, reason) in hostile.items():
        assert found[f"class0/{name}"] == ("failed" if reason else "ok", reason)
