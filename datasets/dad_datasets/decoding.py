"""From the bytes of an image file to RGB pixels, with everything that may be wrong said as one short reason."""

from __future__ import annotations

import io
import struct
import warnings
import zlib

from PIL import Image, ImageOps, UnidentifiedImageError, features
from PIL.WebPImagePlugin import WebPImageFile

# What Pillow's plug-ins let through on malformed files, beside their own errors.
_PARSER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    RuntimeError,
    ArithmeticError,
    MemoryError,
    struct.error,
    zlib.error,
)

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM")
"""The types that sources look for. Pillow knows more, of which some (EPS) start other programs on the image."""

MAX_PIXELS = 178_956_970
"""Pillow's own limit for decompression bombs; an image with more pixels is refused before its pixels are decoded."""

_HAS_WEBP = bool(features.check("webp"))


class UndecodableImageError(ValueError):
    """An image that cannot be used; its message is the reason that goes into the index."""


def decode_image(encoded: bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The first frame of an image file as an RGB image, its EXIF rotation applied.

    16-bit and floating-point greyscale images, which Pillow would clip instead of scale, are refused like corrupt ones.
    Raises UndecodableImageError: corrupt, truncated, of an unknown type, or with more than `max_pixels` pixels.
    """
    if not encoded:
        raise UndecodableImageError("empty file")
    try:
        bare = _bare_webp(encoded)
        if bare is not None:
            return _as_rgb(_loaded(bare, max_pixels))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns below its hard limit, and about broken metadata
            image = _loaded(Image.open(io.BytesIO(encoded), formats=FORMATS), max_pixels)
            ImageOps.exif_transpose(image, in_place=True)
            return _as_rgb(image)
    except UndecodableImageError:
        raise
    except Image.DecompressionBombError:
        raise UndecodableImageError("decompression bomb") from None
    except UnidentifiedImageError:
        raise UndecodableImageError("not an image") from None
    except _PARSER_ERRORS as error:
        raise UndecodableImageError("truncated" if "truncated" in str(error) else "corrupt") from None


def _bare_webp(encoded: bytes) -> Image.Image | None:
    """A WebP file without EXIF or XMP, as shards hold them, opened by its plug-in alone; None where it is none.

    At 32 px a third of the time goes to what it then does without: trying the other types, looking for a rotation, and
    changing the warnings' filters, which all threads share and this plug-in has no need of. (The warning about large
    images is `Image.open`'s.)
    """
    if encoded[8:12] != b"WEBP" or not _HAS_WEBP:
        return None
    try:
        image = WebPImageFile(io.BytesIO(encoded))
    except SyntaxError:
        return None  # the way for all types says what it is instead
    return None if "exif" in image.info or "xmp" in image.info else image


def _loaded(image: Image.Image, max_pixels: int) -> Image.Image:
    """With its pixels decoded, if they are as many and of the type that they may be."""
    if image.width * image.height > max_pixels:
        raise UndecodableImageError(f"decompression bomb ({image.width}x{image.height})")
    if image.mode.startswith(("I", "F")):
        raise UndecodableImageError(f"unsupported pixel type ({image.mode})")
    image.load()
    return image


def _as_rgb(image: Image.Image) -> Image.Image:
    return image if image.mode == "RGB" else image.convert("RGB")  # which would copy
