"""Common corruptions (Hendrycks and Dietterich, ICLR 2019, arXiv 1903.12261) on batches of images, on torch."""

from dad_datasets.benchmarks.corruption_names import CorruptionName
from dad_datasets.corruptions.corrupt import corrupt
from dad_datasets.corruptions.strengths import COMMON, EXTRA, NUM_SEVERITIES, StrengthsName

__all__ = ["COMMON", "EXTRA", "NUM_SEVERITIES", "CorruptionName", "StrengthsName", "corrupt"]
