"""The randomness of one sample, a pure function of (run seed, source key, view, purpose): no global state.

numpy only, so that it can be drawn in decoding threads. numpy may change the streams of its distributions between
versions; the manifest names the version.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from dad_datasets.seeding import generator_for
from dad_pipeline.norms import NormName


def sample_generator(seed: int, source_key: str, view: int, purpose: str) -> np.random.Generator:
    """A generator of its own for each combination."""
    return generator_for(seed, source_key, view, purpose)


def random_start(
    generator: np.random.Generator, norm: NormName, probability: float, size: tuple[int, int]
) -> Float32[np.ndarray, "3 h w"]:
    """Where the attack of one sample begins, in units of epsilon: with `probability` a random element of the unit
    ball (l2: uniform on its surface; linf: uniform inside), else 0. `size` is (height, width).

    Departure from the authors' code, which tosses one coin for a whole batch.
    """
    if generator.random() >= probability:
        return np.zeros((3, *size), np.float32)
    if norm == "linf":
        return 2.0 * generator.random((3, *size), np.float32) - np.float32(1.0)
    return _random_unit_vectors(generator, 1, size)[0]


def random_directions(
    generator: np.random.Generator, norm: NormName, steps: int, size: tuple[int, int]
) -> Float32[np.ndarray, "steps 3 h w"]:
    """Steps of the noise control, as long as normalised gradients: l2 unit vectors, or random signs for linf."""
    if norm == "linf":
        signs = generator.integers(0, 2, (steps, 3, *size), np.int8)
        return (2 * signs - 1).astype(np.float32)
    return _random_unit_vectors(generator, steps, size)


def random_target(generator: np.random.Generator, label: int, num_classes: int) -> int:
    """A class other than `label`, uniformly; there must be at least two classes."""
    other = int(generator.integers(num_classes - 1))
    return other + 1 if other >= label else other


def _random_unit_vectors(
    generator: np.random.Generator, count: int, size: tuple[int, int]
) -> Float32[np.ndarray, "count 3 h w"]:
    vectors = generator.standard_normal((count, 3, *size), np.float32)
    # Summed in float64: the order of the sum, which follows the CPU's vector width, then leaves float32 alone.
    lengths = np.sqrt(np.square(vectors, dtype=np.float64).sum(axis=(1, 2, 3), keepdims=True))
    return (vectors / lengths).astype(np.float32)
