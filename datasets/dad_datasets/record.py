"""One adversarial view as it is stored: its members in a tar, its row in the index."""

from __future__ import annotations

import hashlib
import io
import json
import math
from dataclasses import dataclass
from functools import lru_cache
from tokenize import TokenError
from typing import Any

import numpy as np
import numpy.typing as npt

from dad_datasets.image_codec import ImageFormat
from dad_datasets.views import Canvas, View

PSNR_CAP_DB = 100.0
"""Stands for the infinite PSNR of equal images: JSON and the index hold finite numbers only."""

REST_FLOOR = -1e4
"""Stands for the log of no mass at all, where every class is kept."""


@dataclass(frozen=True, kw_only=True)
class Measurements:
    """What is measured on one adversarial view. Lengths are in pixel units of [0,1]; objectives in nats."""

    teacher_clean_top1: int
    teacher_clean_confidence: float
    teacher_adv_top1: int
    teacher_adv_confidence: float
    objective_before: float
    """The attack's objective of the labelling teacher on the clean view."""
    objective_after: float
    """The same on the stored adversarial pixels."""
    l2: float
    """Norm of the perturbation handed to the last encoding: what the budget bounds."""
    linf: float
    psnr_db: float
    """Stored adversarial pixels against the clean canvas."""
    psnr_vqgan_db: float
    """The VQGAN's round trip alone against the clean canvas."""
    codes_changed_by_attack: float
    """Share of the codes that differ from re-encoding the VQGAN's round trip."""


@dataclass(frozen=True, kw_only=True)
class Logits:
    """A teacher's logits as they are stored, rows (clean view, adversarial pixels).

    Full: `values` float16 [2, C], each row minus its maximum; `ids` and `rest` are None. Top-k: `values` float16
    [2, k] in falling order, `ids` uint16 [2, k] their classes, `rest` float32 [2, n_T] the log of the probability
    mass left out at each of the recipe's temperatures. A clean-only view has one row.
    """

    values: npt.NDArray[np.float16]
    ids: npt.NDArray[np.uint16] | None = None
    rest: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Whose view this is."""

    key: str
    source_key: str
    source_shard: str
    label: int
    source_sha256: bytes
    """Of the image file's bytes in the source."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One adversarial view, ready to be stored. `codes` is uint16 [h/f, w/f]."""

    provenance: Provenance
    view: View
    canvas_sha256: bytes
    image: bytes | None
    """The adversarial image's file, or None where only codes are stored."""
    image_sha256: bytes
    """Of the uint8 pixels that a reader gets back."""
    codes: npt.NDArray[np.uint16] | None
    clean: bytes | None
    logits: Logits
    measurements: Measurements
    teacher_vqgan_top1: int | None
    """The teacher's class on the VQGAN's round trip alone, where it was scored."""


def pixels_sha256(canvas: Canvas) -> bytes:
    """SHA-256 of the pixels in row-major order."""
    return hashlib.sha256(np.ascontiguousarray(canvas).data).digest()


def compress_logits(logits: npt.NDArray[np.float32], *, top_k: int | None, temperatures: tuple[float, ...]) -> Logits:
    """Rows of logits [n, C] in the form that is stored; full where `top_k` is None.

    Shifting a row by a constant changes no softmax, and with its maximum at 0 float16 keeps the top log-probability to
    2e-4. The rest at temperature T is log(sum over classes left out of softmax(row / T)), at least REST_FLOOR.
    """
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    if top_k is None:
        return Logits(values=np.maximum(shifted, -6e4).astype(np.float16))
    order = np.argsort(-shifted, axis=1, kind="stable")
    kept, left = order[:, :top_k], order[:, top_k:]
    rest = np.empty((len(logits), len(temperatures)), dtype=np.float32)
    for column, temperature in enumerate(temperatures):
        mass = np.exp(shifted / temperature).sum(axis=1)
        scaled = np.take_along_axis(shifted, left, axis=1) / temperature
        peak = scaled.max(axis=1, initial=-np.inf, keepdims=True).clip(min=REST_FLOOR)  # or the sum could come to 0
        with np.errstate(divide="ignore"):
            log_left = np.log(np.exp(scaled - peak).sum(axis=1)) + peak[:, 0]
        rest[:, column] = (log_left - np.log(mass)).clip(min=REST_FLOOR)
    values = np.maximum(np.take_along_axis(shifted, kept, axis=1), -6e4).astype(np.float16)
    return Logits(values=values, ids=kept.astype(np.uint16), rest=rest)


def members_of(record: Record, image_format: ImageFormat) -> dict[str, bytes]:
    """The tar members of `record` by extension, in the order in which they are written."""
    members: dict[str, bytes] = {}
    if record.image is not None:
        members[image_format] = record.image
    members["cls"] = str(record.provenance.label).encode("ascii")
    members["teacher.npy"] = npy_bytes(record.logits.values)
    if record.logits.ids is not None and record.logits.rest is not None:
        members["teacher_ids.npy"] = npy_bytes(record.logits.ids)
        members["teacher_rest.npy"] = npy_bytes(record.logits.rest)
    if record.codes is not None:
        members["codes.npy"] = npy_bytes(record.codes)
    if record.clean is not None:
        members["clean.webp"] = record.clean
    members["json"] = json_bytes(record)
    return members


def json_bytes(record: Record) -> bytes:
    """The `.json` member: a fixed schema without null, NaN or Infinity."""
    document: dict[str, Any] = {
        "source_key": record.provenance.source_key,
        "source_shard": record.provenance.source_shard,
        "label": record.provenance.label,
        "view": vars(record.view),
        "source_sha256": record.provenance.source_sha256.hex(),
        "canvas_sha256": record.canvas_sha256.hex(),
        "image_sha256": record.image_sha256.hex(),
        "measurements": vars(record.measurements),
    }
    return json.dumps(document, allow_nan=False, separators=(",", ":")).encode()


def npy_bytes(array: npt.NDArray[Any]) -> bytes:
    """The array as a .npy file in row-major order. ValueError where it would need pickle."""
    if array.dtype.hasobject:
        raise ValueError(f"an array of {array.dtype} needs pickle")
    return _npy_header(array.dtype, array.shape) + array.tobytes()


@lru_cache(maxsize=64)  # making it takes ten times as long as the rest, and those of a dataset are all equal
def _npy_header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    fields = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, fields)
    return stream.getvalue()


def read_npy(content: bytes) -> npt.NDArray[Any]:
    """The array in a .npy file, and nothing beside it. ValueError where it is none, or would need pickle."""
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        if version != (1, 0):
            raise ValueError(f"a .npy file of version {version}; expected (1, 0)")
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(stream)
    except (SyntaxError, TypeError, LookupError, RecursionError, MemoryError, TokenError) as error:
        raise ValueError(f"its header is damaged: {error}") from None
    # Compared before anything is allocated: a header of 100 bytes may claim any number of them.
    plain = not dtype.hasobject and all(type(extent) is int and extent >= 0 for extent in shape)
    if not plain or dtype.itemsize == 0 or math.prod(shape) * dtype.itemsize != len(content) - stream.tell():
        raise ValueError(f"{len(content) - stream.tell():,} bytes are no {dtype} array of shape {shape}")
    flat: npt.NDArray[Any] = np.frombuffer(content, dtype, offset=stream.tell()).copy()
    return flat.reshape(shape, order="F" if fortran_order else "C")


def psnr_db(a: Canvas, b: Canvas) -> float:
    """Peak signal-to-noise ratio of two canvases in dB, at most PSNR_CAP_DB.

    A float32 number, as the index holds: its row alone is enough to write a record's json member again.
    """
    error = float(np.mean((a.astype(np.float32) - b.astype(np.float32)) ** 2, dtype=np.float64))
    return PSNR_CAP_DB if error == 0 else float(np.float32(min(PSNR_CAP_DB, 10 * math.log10(255**2 / error))))
