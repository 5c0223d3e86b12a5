"""Shard sets as map-style datasets: every record with its clean sample and the teacher's logits."""

from dad_trainer.reading.opening import open_pairs
from dad_trainer.reading.pair import Pair, TeacherRow
from dad_trainer.reading.pairs import Pairs

__all__ = ["Pair", "Pairs", "TeacherRow", "open_pairs"]
