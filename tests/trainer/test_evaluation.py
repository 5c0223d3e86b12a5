"""Students over benchmarks: fake ones that read an image's class from its colour, or the next class where told to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from coded_images import write_folders
from PIL import Image
from torch import Tensor, nn

from dad_datasets.benchmarks import BenchmarkSettings, CleanBenchmark, CorruptedBenchmark
from dad_datasets.benchmarks.class_folders import ClassFolders
from dad_datasets.benchmarks.evaluation_view import EvaluationView
from dad_datasets.benchmarks.settings import FolderBenchmark
from dad_datasets.corruptions import corrupt
from dad_datasets.decoding import decode_image
from dad_datasets.errors import UserError
from dad_trainer.evaluation import EvaluationProgress, Result, RunSettings, evaluate_student, evaluate_students
from dad_trainer.evaluation.canvases import BadImages, ChunkReader
from dad_trainer.evaluation.identity import sha256_of_file, student_names
from dad_trainer.evaluation.inference import Inference
from dad_trainer.evaluation.ledger import Ledger
from dad_trainer.students import Student

NUM_CLASSES, IMAGES_PER_CLASS = 8, 3
NUM_IMAGES = NUM_CLASSES * IMAGES_PER_CLASS


class ColourReader(nn.Module):
    """Logit `scale` for the class that the middle pixel's green says (plus `shift`), 0 for others; counts images."""

    def __init__(self, *, shift: int = 0, scale: float = 4.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, 1, 1, 1))
        self.shift = shift
        self.scale = scale
        self.seen = 0

    def forward(self, pixels: Tensor) -> Tensor:
        self.seen += len(pixels)
        assert not self.training
        assert pixels.is_contiguous(memory_format=torch.channels_last)
        middle = pixels[:, 1, pixels.shape[2] // 2, pixels.shape[3] // 2]
        told = (middle * 255 / 8).round().long()
        return self.scale * nn.functional.one_hot((told + self.shift) % NUM_CLASSES, NUM_CLASSES).to(pixels.dtype)


def reader(
    *, shift: int = 0, scale: float = 4.0, image_size: int = 16, names: tuple[str, ...] | None = None
) -> Student:
    return Student(
        model=ColourReader(shift=shift, scale=scale),
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        architecture="colour reader",
        num_classes=NUM_CLASSES,
        image_size=image_size,
    )


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_folders(
        tmp_path / "images",
        {f"c{index}": index for index in range(NUM_CLASSES)},
        images=IMAGES_PER_CLASS,
        size=(20, 18),
    )


@pytest.fixture
def both(images: Path) -> list[BenchmarkSettings]:
    return [
        CleanBenchmark(name="clean", path=str(images)),
        CorruptedBenchmark(name="C", path=str(images), corruptions=("contrast", "gaussian_noise"), severities=(1, 5)),
    ]


def seen_by(student: Student) -> int:
    assert isinstance(student.model, ColourReader)
    return student.model.seen


def test_one_who_knows_and_one_who_does_not(images: Path) -> None:
    clean = [CleanBenchmark(name="clean", path=str(images))]
    (right,) = evaluate_student(reader(scale=60), clean)
    assert (right.num_images, right.top1, right.top5, right.num_bad) == (NUM_IMAGES, 1.0, 1.0, 0)
    assert right.ece == pytest.approx(0, abs=1e-6)
    (wrong,) = evaluate_student(reader(shift=1), clean)
    assert wrong.top1 == 0
    told = torch.tensor([4.0] + [0.0] * (NUM_CLASSES - 1)).softmax(0)
    assert wrong.ece == pytest.approx(float(told[0]), rel=1e-6)
    assert wrong.nll == pytest.approx(-float(told[1].log()), rel=1e-6)


def test_corrupted_rows_are_of_our_corruptions_of_the_canvas(images: Path, both: list[BenchmarkSettings]) -> None:
    rows = evaluate_student(reader(), both)
    assert [(row.benchmark, row.corruption, row.severity) for row in rows] == [
        ("clean", None, None),
        ("C", "gaussian_noise", 1),
        ("C", "gaussian_noise", 5),
        ("C", "contrast", 1),
        ("C", "contrast", 5),
    ]
    right = 0
    for index in range(NUM_CLASSES):
        for number in range(IMAGES_PER_CLASS):
            key = f"c{index}/{number}.png"
            image = decode_image((images / key).read_bytes()).resize((16, 16))  # of one colour: any filter will do
            pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(1, 16, 16, 3)
            noisy = corrupt(pixels.permute(0, 3, 1, 2), "gaussian_noise", 5, strengths="cifar", seed=0, keys=[key])
            right += round(float(noisy[0, 1, 8, 8]) / 8) % NUM_CLASSES == index
    assert rows[2].top1 == pytest.approx(right / NUM_IMAGES)
    assert 0 < right < NUM_IMAGES


@pytest.mark.parametrize(
    "run", [RunSettings(batch_size=5), RunSettings(batch_size=7, chunk_mib=1, decode_threads=1), RunSettings()]
)
def test_rows_do_not_depend_on_how_they_are_computed(
    both: list[BenchmarkSettings], run: RunSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = evaluate_students({"a": reader(), "b": reader(shift=1), "c": reader(image_size=12)}, both)
    if run.chunk_mib == 1:
        monkeypatch.setattr("dad_trainer.evaluation.row_finder.RowFinder._chunk_images", lambda *_: 5)
    assert evaluate_student(reader(), both, run=run) == together["a"]
    assert evaluate_student(reader(shift=1), both, run=run) == together["b"]
    assert evaluate_student(reader(image_size=12), both, run=run) == together["c"]


def test_bfloat16_is_taken_and_told(both: list[BenchmarkSettings]) -> None:
    class Linear(ColourReader):
        def forward(self, pixels: Tensor) -> Tensor:
            assert (pixels.flatten(1) @ pixels.flatten(1).T).dtype == torch.bfloat16
            return super().forward(pixels)

    student = Student(**{**vars(reader()), "model": Linear()})
    (row,) = evaluate_student(student, both[:1], run=RunSettings(precision="bfloat16"))
    assert row.top1 == 1


def test_a_mask_leaves_other_classes_out(images: Path) -> None:
    """Shifted by one the student always names the next class; masked to every second it cannot."""
    classes: dict[int | str, int | str] = {f"c{index}": index for index in range(0, NUM_CLASSES, 2)}
    folder = FolderBenchmark(name="f", path=str(images), classes=classes, ignore_unmapped=True)
    masked = folder.model_copy(update={"mask": True, "name": "m"})
    whole, part = evaluate_student(reader(shift=1), [folder, masked])
    assert (whole.num_images, part.num_images) == (12, 12)
    assert whole.top1 == 0
    assert part.nll == pytest.approx(float(torch.tensor(4.0).log())), "all four remaining logits are equal"
    assert part.top5 is None


def test_bad_images_are_counted_and_named_up_to_a_limit(images: Path, both: list[BenchmarkSettings]) -> None:
    (images / "c3" / "0.png").write_bytes(b"no image")
    (images / "c5" / "1.png").write_bytes(b"")
    message = r"benchmark clean: 1 of 24 images cannot be used, more than max_bad_images = 0; the first: c\d/\d.png: "
    with pytest.raises(UserError, match=message):
        evaluate_student(reader(), both)
    rows = evaluate_student(reader(), both, run=RunSettings(max_bad_images=0.1))
    for row in rows:
        assert (row.num_images, row.num_bad) == (NUM_IMAGES - 2, 2)
        assert sorted(row.bad_images) == ["c3/0.png: not an image", "c5/1.png: image is empty"]
    assert rows[0].top1 == 1
    for file in images.rglob("*.png"):
        file.write_bytes(b"no image")
    with pytest.raises(UserError, match="none of its 24 images can be used"):
        evaluate_student(reader(), both, run=RunSettings(max_bad_images=1))


def test_images_of_another_size_than_published_are_bad(images: Path) -> None:
    reader_ = ChunkReader(
        view=EvaluationView(size=8), required_size=18, decode_threads=1, chunk_images=9, max_bad_images=1.0, origin="b"
    )
    labels = {f"c{index}": index for index in range(NUM_CLASSES)}
    Image.new("RGB", (18, 18)).save(images / "c2" / "0.png")
    bad = BadImages()
    chunks = list(reader_.read(ClassFolders(str(images), labels, origin="b"), bad))
    assert [key for chunk in chunks for key in chunk.keys] == ["c2/0.png"]
    assert bad.count == NUM_IMAGES - 1
    assert bad.named[0].endswith("has 20 x 18 pixels, not 18 x 18")
    assert len(bad.named) == 10


def test_nothing_runs_before_everything_is_checked(images: Path) -> None:
    student = reader()
    benchmarks: Sequence[BenchmarkSettings] = [
        CleanBenchmark(name="clean", path=str(images)),
        CleanBenchmark(name="gone", path=str(images / "none")),
    ]
    with pytest.raises(UserError, match="none"):
        evaluate_student(student, benchmarks)
    assert seen_by(student) == 0


def test_a_student_without_answers_is_refused(both: list[BenchmarkSettings]) -> None:
    with pytest.raises(UserError, match="the student colour reader answers with NaN or infinite logits"):
        evaluate_student(reader(scale=float("nan")), both)


def test_a_full_memory_names_a_smaller_batch(both: list[BenchmarkSettings], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(Inference, "logits", full)
    with pytest.raises(UserError, match=r"8 images at once do not fit .*: try --set run\.batch_size=4"):
        evaluate_student(reader(), both, run=RunSettings(batch_size=8))


def test_a_missing_gpu_is_refused(both: list[BenchmarkSettings], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"run.device = cuda: no GPU was found"):
        evaluate_student(reader(), both, run=RunSettings(device="cuda"))


def test_progress_counts_every_image_of_every_row(both: list[BenchmarkSettings]) -> None:
    seen: list[EvaluationProgress] = []
    evaluate_students({"a": reader(), "b": reader(shift=1)}, both, report=seen.append, run=RunSettings(batch_size=9))
    assert {progress.total for progress in seen} == {2 * 5 * NUM_IMAGES}
    counts = [progress.done for progress in seen]
    assert counts == sorted(counts)
    assert counts[-1] == 2 * 5 * NUM_IMAGES
    assert str(seen[-1].condition) == "contrast 5"


def ledger_of(path: Path, *, precision: str = "float32", **checkpoints: str) -> Ledger:
    students = {name: {"checkpoint_sha256": sha256} for name, sha256 in checkpoints.items()}
    return Ledger(path, students=students, precision=precision)


def test_finished_rows_are_not_computed_again(both: list[BenchmarkSettings], images: Path, tmp_path: Path) -> None:
    path = tmp_path / "out" / "rows.jsonl"

    def rerun(benchmarks: Sequence[BenchmarkSettings], **options: str) -> tuple[list[Result], int]:
        student = reader()
        ledger = ledger_of(path, **({"a": "1111"} | options))
        return evaluate_students({"a": student}, benchmarks, ledger=ledger)["a"], seen_by(student)

    first, computed = rerun(both)
    assert computed == 5 * NUM_IMAGES
    assert rerun(both) == (first, 0)
    more: list[BenchmarkSettings] = [both[1].model_copy(update={"severities": (1, 3, 5)})]
    assert rerun(more)[1] == 2 * NUM_IMAGES, "one more severity of two corruptions"
    renamed: list[BenchmarkSettings] = [both[0].model_copy(update={"name": "other"})]
    assert [row.benchmark for row in rerun(renamed)[0]] == ["other"]
    assert rerun(renamed)[1] == 0
    assert rerun(both, a="2222")[1] == 5 * NUM_IMAGES, "other weights"
    assert rerun(both, precision="bfloat16")[1] == 5 * NUM_IMAGES
    assert rerun([both[0].model_copy(update={"fraction": 0.5})])[1] == NUM_IMAGES
    Image.new("RGB", (9, 9)).save(images / "c1" / "another.png")
    assert rerun(both)[1] == 5 * (NUM_IMAGES + 1), "other images"


def test_a_row_cut_off_by_a_kill_is_computed_again(both: list[BenchmarkSettings], tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    first = evaluate_students({"a": reader()}, both, ledger=ledger_of(path, a="1"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    student = reader()
    assert evaluate_students({"a": student}, both, ledger=ledger_of(path, a="1")) == first
    assert seen_by(student) == NUM_IMAGES
    assert path.read_bytes() == whole
    path.write_text("{}\n")
    with pytest.raises(UserError, match=r"rows.jsonl: line 1 is no row of dad evaluate"):
        ledger_of(path, a="1")


def test_rows_of_a_run_that_dies_are_kept(
    both: list[BenchmarkSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a set that fits into one chunk each row is written as soon as it is known."""
    whole = ColourReader.forward

    def die_in_time(self: ColourReader, pixels: Tensor) -> Tensor:
        if self.seen >= 3 * NUM_IMAGES:
            raise KeyboardInterrupt
        return whole(self, pixels)

    monkeypatch.setattr(ColourReader, "forward", die_in_time)
    path = tmp_path / "rows.jsonl"
    with pytest.raises(KeyboardInterrupt):
        evaluate_students({"a": reader()}, both, ledger=ledger_of(path, a="1"))
    rows = [json.loads(line)["result"] for line in path.read_text().splitlines()]
    assert [(row["corruption"], row["severity"]) for row in rows] == [
        (None, None),
        ("gaussian_noise", 1),
        ("gaussian_noise", 5),
    ]
    monkeypatch.setattr(ColourReader, "forward", whole)
    student = reader()
    evaluate_students({"a": student}, both, ledger=ledger_of(path, a="1"))
    assert seen_by(student) == 2 * NUM_IMAGES


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["runs/ce/best.pt"], ["ce/best"]),
        (["runs/ce/best.pt", "runs/kd/best.pt"], ["ce/best", "kd/best"]),
        (["runs/ce.pt", "runs/kd.pt"], ["ce", "kd"]),
        (["a/x/best.pt", "b/x/best.pt", "c.pt"], ["a/x/best", "b/x/best", "{here}/c"]),
        (["best.pt", "best.safetensors"], ["{here}/best.pt", "{here}/best.safetensors"]),
    ],
)
def test_students_are_named_by_what_tells_them_apart(
    paths: list[str], names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = list(student_names([Path(path) for path in paths]))
    for name, expected in zip(found, names, strict=True):
        assert name.endswith(expected.removeprefix("{here}/"))
    assert len(set(found)) == len(paths)


def test_a_checkpoint_twice_or_not_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is given twice"):
        student_names([tmp_path / "a.pt", tmp_path / "x" / ".." / "a.pt"])
    with pytest.raises(UserError, match=r"a.pt: cannot be read: No such file"):
        sha256_of_file(tmp_path / "a.pt")
