"""Single image files in a folder of class folders."""

from __future__ import annotations

import errno
import os
import re
import stat

from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from dad_datasets.errors import UserError
from dad_datasets.filesystems import filesystem_here
from dad_datasets.sources.clean_source import LARGEST_IMAGE_BYTES, image_problem
from dad_datasets.sources.image_types import is_image_name
from dad_datasets.sources.source_files import open_file
from dad_datasets.store_errors import StoreError, plainly_told, store_code

_NOTHING_IN_RANGE = frozenset({"InvalidRange", "416"})  # S3's answer where an object has no bytes
_NO_TEXT = re.compile("[\0\ud800-\udfff]")  # surrogates stand for bytes that are not UTF-8; keys have none


def is_listed_name(name: str) -> bool:
    """Whether listing the folder could give this relative path: never one that leads out of the folder.

    Hidden parts are not listed, and `..` is one of them; nor are empty parts, and an absolute path begins with one.
    """
    parts = name.split("/")
    whole = len(parts) > 1 and all(part and not part.startswith(".") for part in parts)
    return whole and not _NO_TEXT.search(name) and is_image_name(name)


def read_image(filesystem: AbstractFileSystem, path: str) -> tuple[bytes, str]:
    """The file, and a problem or an empty string; no bytes where there is a problem. StoreError, which passes."""
    try:
        with open_file(filesystem, path) as file:
            image = file.read(LARGEST_IMAGE_BYTES + 1)
    except StoreError:
        raise  # the image is none the worse for it: a row would say otherwise for ever
    except (UserError, OSError):
        return b"", "image file cannot be read"
    problem = image_problem(len(image))
    return (b"" if problem else image), problem


def fetch_image(filesystem: AbstractFileSystem, path: str, source_key: str) -> bytes:
    """The file. KeyError where there is none or it is unusable, UserError where it is there but cannot be read."""
    try:
        if isinstance(filesystem, LocalFileSystem):
            with open(path, "rb") as file:
                image = file.read(LARGEST_IMAGE_BYTES + 1)
        else:
            with plainly_told(f"source file {path}"):
                image = filesystem_here(filesystem).cat_file(path, start=0, end=LARGEST_IMAGE_BYTES + 1)
    except StoreError as error:
        if store_code(error) in _NOTHING_IN_RANGE:
            raise KeyError(source_key) from None
        raise UserError(str(error)) from None
    except OSError as error:
        if _says_absent(error):
            raise KeyError(source_key) from None
        raise UserError(f"source file {path}: cannot be read: {error.strerror or error}") from None
    if image_problem(len(image)):
        raise KeyError(source_key)
    return image


def is_image_file(path: str) -> bool:
    """Whether a file of a size that `fetch_image` takes is at this local path. UserError where that cannot be told."""
    try:
        status = os.stat(path)
    except OSError as error:
        if _says_absent(error):
            return False
        raise UserError(f"source file {path}: cannot be read: {error.strerror or error}") from None
    return stat.S_ISREG(status.st_mode) and not image_problem(status.st_size)


def _says_absent(error: OSError) -> bool:
    # By type, because remote filesystems raise these without an error number.
    absent = isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError)
    return absent or error.errno == errno.ENAMETOOLONG
