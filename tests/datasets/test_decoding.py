"""Decoding: right pixels, or one short reason; never another exception."""

from __future__ import annotations

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dad_datasets.decoding import UndecodableImageError, decode_image

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)
KINDS = ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "PPM")
ORIENTATION = 0x0112


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "PPM"])
def test_lossless_kinds_give_their_pixels(kind: str) -> None:
    image = decode_image(encoded(Image.fromarray(PIXELS), kind))
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image), PIXELS)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA", "CMYK"])
def test_other_modes_become_rgb(mode: str) -> None:
    kind = "TIFF" if mode in ("CMYK", "PA") else "PNG"
    grey = Image.fromarray(np.full((4, 5, 3), 255, np.uint8)).convert("L").convert("LA" if mode == "PA" else "RGB")
    image = decode_image(encoded(grey.convert(mode), kind))
    assert (image.mode, image.size) == ("RGB", (5, 4))
    assert (np.asarray(image) == 255).all()


def test_transparent_pixels_keep_their_colour() -> None:
    rgba = np.dstack([PIXELS, np.zeros((6, 9), np.uint8)])
    assert np.array_equal(np.asarray(decode_image(encoded(Image.fromarray(rgba)))), PIXELS)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "MPO"])
def test_the_first_frame_of_many_counts(kind: str) -> None:
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("white", "black", "black")]
    options = {"lossless": True} if kind == "WEBP" else {}
    image = decode_image(encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options))
    assert (np.asarray(image) == 255).all()
    assert image.size == (4, 3)


TURNED = {
    1: PIXELS,
    2: PIXELS[:, ::-1],
    3: PIXELS[::-1, ::-1],
    4: PIXELS[::-1],
    5: PIXELS.transpose(1, 0, 2),
    6: np.rot90(PIXELS, -1),
    7: PIXELS[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90(PIXELS),
}


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
@pytest.mark.parametrize("orientation", TURNED)
def test_exif_rotation_is_applied(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    image = decode_image(encoded(Image.fromarray(PIXELS), kind, exif=exif, lossless=True))
    assert np.array_equal(np.asarray(image), TURNED[orientation])


def test_a_rotation_in_xmp_is_applied() -> None:
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    image = decode_image(encoded(Image.fromarray(PIXELS), "WEBP", xmp=xmp, lossless=True))
    assert np.array_equal(np.asarray(image), TURNED[6])


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_deep_greyscale_is_refused(dtype: type[np.generic]) -> None:
    with pytest.raises(UndecodableImageError, match="unsupported pixel type"):
        decode_image(encoded(Image.fromarray(np.zeros((4, 4), dtype)), "TIFF"))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_truncated_file_is_refused(kind: str) -> None:
    content = encoded(Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)), kind)
    with pytest.raises(UndecodableImageError, match=r"truncated|corrupt|not an image"):
        decode_image(content[: len(content) // 2])


def test_reasons() -> None:
    for content, reason in [(b"", "empty file"), (b"<html>", "not an image")]:
        with pytest.raises(UndecodableImageError, match=f"^{reason}$"):
            decode_image(content)


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [15_000, 100_000])  # below and above the limit at which Pillow itself raises
def test_a_bomb_is_refused(side: int) -> None:
    with pytest.raises(UndecodableImageError, match="decompression bomb"):
        decode_image(png_that_claims(side, side))


def test_the_limit_counts_pixels() -> None:
    content = encoded(Image.fromarray(PIXELS))
    assert decode_image(content, max_pixels=54).size == (9, 6)
    with pytest.raises(UndecodableImageError, match=r"decompression bomb \(9x6\)"):
        decode_image(content, max_pixels=53)


def test_no_program_is_started_for_postscript() -> None:
    with pytest.raises(UndecodableImageError, match="not an image"):
        decode_image(encoded(Image.fromarray(PIXELS), "EPS"))


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_webp_of_shards_leaves_the_filters_of_warnings_alone(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All threads of a process share them: changed in two at a time, they may stay changed."""
    monkeypatch.setattr(warnings, "catch_warnings", lambda: pytest.fail("changed"))
    pixels = np.dstack([PIXELS, np.full((6, 9), 9, np.uint8)]) if mode == "RGBA" else PIXELS
    image = decode_image(encoded(Image.fromarray(pixels), "WEBP", lossless=True, exact=True))
    assert np.array_equal(np.asarray(image), PIXELS)


WEBP_SEEDS = [
    encoded(Image.fromarray(PIXELS), "WEBP", lossless=True),
    encoded(Image.fromarray(PIXELS), "WEBP"),
    encoded(Image.fromarray(PIXELS).convert("RGBA"), "WEBP", lossless=True),
    encoded(Image.fromarray(PIXELS), "WEBP", exif=Image.Exif(), icc_profile=b"profile"),
    encoded(Image.new("RGB", (4, 3)), "WEBP", save_all=True, append_images=[Image.new("RGB", (4, 3), "white")]),
]


def outcome(content: bytes) -> bytes | str:
    try:
        return decode_image(content, max_pixels=10**6).tobytes()
    except UndecodableImageError as error:
        return str(error)


@given(
    st.sampled_from(WEBP_SEEDS),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4),
    st.one_of(st.just(1.0), st.floats(0, 1)),
)
@settings(max_examples=400, deadline=None)
def test_the_short_way_of_webp_ends_like_that_of_all_types(
    content: bytes, changes: list[tuple[float, int]], kept: float
) -> None:
    damaged = bytearray(content[: int(kept * len(content))])
    for place, value in changes:
        damaged[int(place * len(damaged)) : int(place * len(damaged)) + 1] = bytes([value])
    short = outcome(bytes(damaged))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dad_datasets.decoding._bare_webp", lambda _: None)
        assert outcome(bytes(damaged)) == short


SEEDS = [encoded(Image.fromarray(PIXELS), kind) for kind in KINDS] + [
    encoded(Image.fromarray(PIXELS).convert("P")),
    encoded(Image.fromarray(PIXELS), "TIFF", compression="tiff_lzw"),
    encoded(Image.fromarray(PIXELS), "JPEG", progressive=True),
]


def image_or_reason(content: bytes) -> None:
    try:
        image = decode_image(content, max_pixels=10**6)
    except UndecodableImageError:
        return
    assert image.mode == "RGB"
    assert np.asarray(image).size <= 3 * 10**6


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_bytes(content: bytes) -> None:
    image_or_reason(content)


@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6),
    st.floats(0, 1),
)
@settings(max_examples=600, deadline=None)
def test_any_damage(content: bytes, changes: list[tuple[float, int]], kept: float) -> None:
    damaged = bytearray(content)
    for place, value in changes:
        damaged[int(place * len(damaged))] = value
    image_or_reason(bytes(damaged))
    image_or_reason(bytes(damaged[: int(kept * len(damaged))]))
