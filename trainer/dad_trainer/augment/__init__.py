"""Augmentation: what changes from epoch to epoch, alike for both images of a pair and a function of names alone."""

from dad_trainer.augment.augmentation import Augmentation
from dad_trainer.augment.mixing import Mixing, draw_mixing, mix_images, mix_labels
from dad_trainer.augment.settings import AugmentSettings

__all__ = ["AugmentSettings", "Augmentation", "Mixing", "draw_mixing", "mix_images", "mix_labels"]
