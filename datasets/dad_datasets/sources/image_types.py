"""Image file types: the extensions sources look for, and the type told from the first bytes."""

from __future__ import annotations

IMAGE_EXTENSIONS = frozenset({"jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "ppm", "pgm", "gif"})

_SIGNATURES = (
    (b"\xff\xd8\xff", "jpg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"II*\0", "tif"),
    (b"MM\0*", "tif"),
    (b"BM", "bmp"),
    (b"P6", "ppm"),
    (b"P3", "ppm"),
    (b"P5", "pgm"),
    (b"P2", "pgm"),
)

IMAGE_TYPES = frozenset({"webp", *(extension for _, extension in _SIGNATURES)})
"""What `image_type` tells apart."""


def is_image_name(name: str) -> bool:
    """Whether the last extension of a file name is an image's, in any case."""
    return "." in name and name.rpartition(".")[2].lower() in IMAGE_EXTENSIONS


def image_type(image: bytes) -> str | None:
    """The usual extension of the type that the first bytes tell (jpg, png, webp, ...), or None."""
    if image[:4] == b"RIFF" and image[8:12] == b"WEBP":
        return "webp"
    return next((extension for signature, extension in _SIGNATURES if image.startswith(signature)), None)
