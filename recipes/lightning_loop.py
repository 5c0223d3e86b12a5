"""Distil a student from finished shards with Lightning: pairs, stored logits, an order that resumes.

    python recipes/lightning_loop.py runs/demo/dad --out runs/lightning --steps 200

Run it again to go on from the last checkpoint, within an epoch too. `student.pt` is what timm and `dad evaluate` load.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from dad_trainer import Pairs, open_pairs
from dad_trainer.losses import dad, one_hot
from dad_trainer.students import StudentSettings, build_student, normalise
from dad_trainer.teacher_targets import targets_from_samples
from dad_trainer.training.order import SetOrder, epoch_order, process_slice

TEMPERATURE = 4.0


class ShardOrder(Sampler[list[int]]):
    """The batches of an epoch of one process, from the trainer's step on: a function of (seed, step) alone."""

    def __init__(self, pairs: Pairs, trainer: lightning.Trainer, *, batch_size: int, seed: int) -> None:
        self._order = SetOrder(samples=pairs.samples, shards=pairs.shards)
        self._trainer, self._batch_size, self._seed = trainer, batch_size, seed

    def __len__(self) -> int:
        return self._order.visits // self._batch_size

    def __iter__(self) -> Iterator[list[int]]:
        # Lightning makes the iterator when the step has been restored, and before it tells any sampler the epoch.
        epoch, first = divmod(self._trainer.global_step, len(self))
        records = epoch_order([self._order], seed=self._seed, epoch=epoch)[:, 1]
        for batch in range(first, len(self)):
            chosen = records[batch * self._batch_size : (batch + 1) * self._batch_size]
            rank, processes = self._trainer.global_rank, self._trainer.world_size
            yield process_slice(chosen, process=rank, processes=processes).tolist()


class ShardLoader(DataLoader[dict[str, Any]]):
    """Tells Lightning that it resumes within an epoch; its place is the trainer's step, so it has nothing to save."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


class ShardData(lightning.LightningDataModule):
    """The pairs of one set; `batch_size` counts pairs, over all processes."""

    def __init__(self, shards: str, *, batch_size: int, workers: int, seed: int) -> None:
        super().__init__()
        self.pairs = open_pairs(shards, temperature=TEMPERATURE)
        self._batch_size, self._workers, self._seed = batch_size, workers, seed

    def train_dataloader(self) -> ShardLoader:
        assert self.trainer is not None
        order = ShardOrder(self.pairs, self.trainer, batch_size=self._batch_size, seed=self._seed)
        return ShardLoader(self.pairs, batch_sampler=order, num_workers=self._workers)


class Distillation(lightning.LightningModule):
    """CE(s(x), y) + lambda_clean T^2 KL(t(x) || s(x)) + lambda_adv T^2 KL(t(x') || s(x')); both images in one pass."""

    def __init__(self, architecture: str, num_classes: int, *, steps: int, seed: int) -> None:
        super().__init__()
        self._student = build_student(StudentSettings(architecture=architecture), num_classes=num_classes, seed=seed)
        self.network, self._steps = self._student.model, steps

    def training_step(self, batch: dict[str, Any], batch_index: int) -> Tensor:
        pixels = normalise(torch.cat([batch["clean"], batch["adversarial"]]), self._student.mean, self._student.std)
        clean, adversarial = self.network(pixels).chunk(2)
        on_clean, on_adversarial = targets_from_samples(batch, TEMPERATURE)
        loss = dad(
            clean,
            adversarial,
            one_hot(batch["label"], self._student.num_classes),
            on_clean,
            on_adversarial,
            temperature=TEMPERATURE,
            lambda_clean=0.5,
            lambda_adv=0.5,
            attacked=batch["attacked"],
        )
        self.log("loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-3, weight_decay=0.05)
        # The number of steps is given: asked for it here, the trainer would make the data's iterator too early.
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self._steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def save_student(self, path: Path) -> None:
        """A checkpoint that says its architecture, as timm writes them."""
        torch.save({"arch": self._student.architecture, "state_dict": self.network.state_dict()}, path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", help="a finished set with images")
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoints")
    parser.add_argument("--architecture", default="resnet18", help="any timm classifier")
    parser.add_argument("--steps", type=int, default=1000, help="length of the whole run")
    parser.add_argument("--stop-after", type=int, help="stop at this step, and go on another time")
    parser.add_argument("--save-every", type=int, default=100, help="steps between checkpoints")
    parser.add_argument("--batch-size", type=int, default=64, help="pairs in a step")
    parser.add_argument("--workers", type=int, default=2, help="processes that load data")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and of the order")
    given = parser.parse_args()
    data = ShardData(given.shards, batch_size=given.batch_size, workers=given.workers, seed=given.seed)
    module = Distillation(given.architecture, data.pairs.num_classes, steps=given.steps, seed=given.seed)
    keep = ModelCheckpoint(given.out, save_last=True, every_n_train_steps=given.save_every)
    trainer = lightning.Trainer(
        max_steps=given.stop_after or given.steps,
        callbacks=[keep],
        use_distributed_sampler=False,  # ShardOrder shares the batches among the processes
        log_every_n_steps=10,
        default_root_dir=given.out,
    )
    last = given.out / "last.ckpt"
    trainer.fit(module, datamodule=data, ckpt_path=last if last.exists() else None)
    module.save_student(given.out / "student.pt")
