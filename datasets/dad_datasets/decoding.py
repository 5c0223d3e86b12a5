"""From the bytes of an image file to RGB pixels, with everything that may be wrong said as one short reason."""

from __future__ import annotations

import io
import struct
import warnings
import zlib

from PIL import Image, ImageOps, UnidentifiedImageError

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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns below its hard limit, and about broken metadata
            image = Image.open(io.BytesIO(encoded), formats=FORMATS)
            if image.width * image.height > max_pixels:
                raise UndecodableImageError(f"decompression bomb ({image.width}x{image.height})")
            if image.mode.startswith(("I", "F")):
                raise UndecodableImageError(f"unsupported pixel type ({image.mode})")
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            return image if image.mode == "RGB" else image.convert("RGB")  # which would copy
    except UndecodableImageError:
        raise
    except Image.DecompressionBombError:
        raise UndecodableImageError("decompression bomb") from None
    except UnidentifiedImageError:
        raise UndecodableImageError("not an image") from None
    except _PARSER_ERRORS as error:
        raise UndecodableImageError("truncated" if "truncated" in str(error) else "corrupt") from None
