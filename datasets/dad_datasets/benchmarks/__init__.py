"""Benchmarks of robustness in the layouts in which they are published, behind one description. No torch."""

from dad_datasets.benchmarks.benchmark import Benchmark, BenchmarkImage, Condition, ImageSet, counted_corruptions
from dad_datasets.benchmarks.class_mapping import StudentClasses
from dad_datasets.benchmarks.opening import open_benchmark
from dad_datasets.benchmarks.settings import BenchmarkSettings, CleanBenchmark, CorruptedBenchmark

__all__ = [
    "Benchmark",
    "BenchmarkImage",
    "BenchmarkSettings",
    "CleanBenchmark",
    "Condition",
    "CorruptedBenchmark",
    "ImageSet",
    "StudentClasses",
    "counted_corruptions",
    "open_benchmark",
]
