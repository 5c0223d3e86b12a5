"""Records: logits that keep their probabilities, members in order, JSON that any parser reads."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dad_datasets.record import (
    PSNR_CAP_DB,
    REST_FLOOR,
    Measurements,
    Provenance,
    Record,
    compress_logits,
    members_of,
    npy_bytes,
    pixels_sha256,
    psnr_db,
    read_npy,
)
from dad_datasets.views import View

RNG = np.random.default_rng(0)
TEMPERATURES = (1.0, 4.0)


def log_softmax(logits: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True)
    wide -= np.log(np.exp(wide).sum(axis=1, keepdims=True))
    return wide


def teacher_like(spread: float, classes: int = 1000) -> npt.NDArray[np.float32]:
    return (RNG.normal(0, spread, (64, classes)) + 20).astype(np.float32)


@pytest.mark.parametrize("spread", [0.5, 2.0, 8.0])
def test_full_logits_keep_the_top_log_probability(spread: float) -> None:
    logits = teacher_like(spread)
    stored = compress_logits(logits, top_k=None, temperatures=())
    assert stored.values.dtype == np.float16
    assert stored.ids is None
    assert stored.rest is None
    assert (stored.values.max(axis=1) == 0).all()
    ours, exact = log_softmax(stored.values), log_softmax(logits)
    assert np.abs(ours.max(axis=1) - exact.max(axis=1)).max() < 2e-4


@pytest.mark.parametrize("spread", [0.5, 2.0, 8.0])
def test_top_k_keeps_the_largest_and_the_rest(spread: float) -> None:
    logits = teacher_like(spread)
    stored = compress_logits(logits, top_k=10, temperatures=TEMPERATURES)
    assert stored.ids is not None
    assert stored.rest is not None
    assert [str(part.dtype) for part in (stored.values, stored.ids, stored.rest)] == ["float16", "uint16", "float32"]
    for row, ids in zip(logits, stored.ids, strict=True):
        assert ids.tolist() == np.argsort(-row)[:10].tolist()
    for column, temperature in enumerate(TEMPERATURES):
        exact = np.exp(log_softmax(logits / temperature))
        kept = np.take_along_axis(exact, stored.ids.astype(int), axis=1).sum(axis=1)
        assert np.allclose(np.exp(stored.rest[:, column]), 1 - kept, atol=1e-6)
        # What a reader does: probabilities of the kept classes from their values and the rest alone.
        masses = np.exp(stored.values.astype(np.float64) / temperature)
        theirs = masses / masses.sum(axis=1, keepdims=True) * (1 - np.exp(stored.rest[:, [column]].astype(np.float64)))
        assert np.abs(np.log(theirs[:, 0]) - np.log(exact.max(axis=1))).max() < 1e-3
        assert np.allclose(theirs, np.take_along_axis(exact, stored.ids.astype(int), axis=1), atol=2e-4)


def test_the_rest_of_a_very_sure_teacher() -> None:
    logits = np.array([[0, -1, -2000, -2000]], np.float32)
    rest = compress_logits(logits, top_k=2, temperatures=TEMPERATURES).rest
    assert rest is not None
    expected = [-2000 / t + math.log(2) - math.log1p(math.exp(-1 / t)) for t in TEMPERATURES]
    assert np.allclose(rest, [expected], rtol=1e-6)


def test_no_rest_where_every_class_is_kept() -> None:
    rest = compress_logits(np.zeros((2, 3), np.float32), top_k=3, temperatures=(1.0,)).rest
    assert rest is not None
    assert rest.tolist() == [[REST_FLOOR]] * 2


@given(
    st.lists(st.lists(st.floats(-1e6, 1e6, width=32), min_size=5, max_size=5), min_size=1, max_size=4),
    st.sampled_from([None, 1, 3, 5]),
)
@settings(deadline=None)
def test_any_finite_logits_stay_finite(rows: list[list[float]], top_k: int | None) -> None:
    stored = compress_logits(np.array(rows, np.float32), top_k=top_k, temperatures=TEMPERATURES)
    assert np.isfinite(stored.values).all()
    assert (stored.values.max(axis=1) == 0).all()
    if stored.rest is not None:
        assert ((stored.rest <= 1e-6) & (stored.rest >= REST_FLOOR)).all()


def record(**changes: object) -> Record:
    base = Record(
        provenance=Provenance(
            key="a-v1", source_key="a", source_shard="s.tar", label=3, source_sha256=hashlib.sha256(b"a").digest()
        ),
        view=View(index=1, box=(0, 1, 8, 9), size=8, resize="bicubic", flip=True),
        canvas_sha256=bytes(32),
        image=b"image",
        image_sha256=bytes(range(32)),
        codes=np.arange(4, dtype=np.uint16).reshape(2, 2),
        clean=b"clean",
        logits=compress_logits(np.zeros((2, 5), np.float32), top_k=None, temperatures=()),
        measurements=Measurements(
            teacher_clean_top1=1,
            teacher_clean_confidence=0.5,
            teacher_adv_top1=2,
            teacher_adv_confidence=0.25,
            objective_before=0.1,
            objective_after=1.5,
            l2=0.1,
            linf=0.01,
            psnr_db=31.5,
            psnr_vqgan_db=PSNR_CAP_DB,
            codes_changed_by_attack=0.25,
        ),
        teacher_vqgan_top1=None,
    )
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def test_members_stand_in_order() -> None:
    assert list(members_of(record(), "webp")) == ["webp", "cls", "teacher.npy", "codes.npy", "clean.webp", "json"]
    top = compress_logits(np.zeros((2, 5), np.float32), top_k=2, temperatures=(1.0,))
    members = members_of(record(logits=top, codes=None, clean=None), "png")
    assert list(members) == ["png", "cls", "teacher.npy", "teacher_ids.npy", "teacher_rest.npy", "json"]
    assert list(members_of(record(image=None, codes=None, clean=None), "jpg")) == ["cls", "teacher.npy", "json"]


def test_members_hold_what_the_record_does() -> None:
    members = members_of(record(), "webp")
    assert (members["webp"], members["cls"], members["clean.webp"]) == (b"image", b"3", b"clean")
    assert read_npy(members["codes.npy"]).tolist() == [[0, 1], [2, 3]]
    assert read_npy(members["teacher.npy"]).dtype == np.float16


def test_json_has_neither_null_nor_nan() -> None:
    def refuse(name: str) -> None:
        raise AssertionError(name)

    def leaves(value: object) -> list[object]:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
        return [value] if inner is None else [leaf for item in inner for leaf in leaves(item)]

    document = json.loads(members_of(record(), "webp")["json"], parse_constant=refuse)
    assert None not in leaves(document)
    assert document["view"] == {"index": 1, "box": [0, 1, 8, 9], "size": 8, "resize": "bicubic", "flip": True}
    assert document["source_sha256"] == hashlib.sha256(b"a").hexdigest()
    assert document["measurements"]["psnr_vqgan_db"] == 100
    broken = dataclasses.replace(record().measurements, l2=math.nan)
    with pytest.raises(ValueError):
        members_of(record(measurements=broken), "webp")


@pytest.mark.parametrize("dtype", ["<f2", "<u2", "<f4", "|u1"])
@pytest.mark.parametrize("shape", [(2, 10), (1, 3), (0,), (4, 1, 2), ()])
def test_arrays_are_written_as_numpy_writes_them(dtype: str, shape: tuple[int, ...]) -> None:
    array = np.arange(math.prod(shape)).reshape(shape).astype(dtype)
    stream = io.BytesIO()
    np.save(stream, array)
    assert npy_bytes(array) == stream.getvalue()


def test_columns_first_are_written_rows_first() -> None:
    array = np.asfortranarray(np.arange(6).reshape(2, 3))
    assert np.array_equal(np.load(io.BytesIO(npy_bytes(array))), array)


def test_arrays_never_need_pickle() -> None:
    objects = np.array([{}], dtype=object)
    with pytest.raises(ValueError):
        npy_bytes(objects)
    with pytest.raises(ValueError):
        read_npy(b"\x80\x04N.")


def test_pixel_hash_is_of_the_rows_in_order() -> None:
    pixels = RNG.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    assert pixels_sha256(pixels[:, ::-1]) == hashlib.sha256(pixels[:, ::-1].tobytes()).digest()
    assert pixels_sha256(pixels[:, ::-1]) != pixels_sha256(pixels)


def test_psnr() -> None:
    black, white = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 255, np.uint8)
    assert psnr_db(black, white) == 0
    assert psnr_db(black, black) == PSNR_CAP_DB
    assert psnr_db(black, black + np.uint8(1)) == pytest.approx(20 * math.log10(255))
