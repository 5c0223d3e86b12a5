"""Blurs without randomness: Gaussian, defocus and zoom. Pixels are in [0, 1]."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from dad_datasets.corruptions.borders import extend
from dad_datasets.corruptions.gaussian import smooth


def gaussian_blur(pixels: Float[Tensor, "n 3 h w"], sigma: float) -> Float[Tensor, "n 3 h w"]:
    """Smoothed with standard deviation `sigma` in pixels."""
    return smooth(pixels, sigma)


def defocus_blur(pixels: Float[Tensor, "n 3 h w"], radius: float, alias_sigma: float) -> Float[Tensor, "n 3 h w"]:
    """Convolved with a disk of `radius` pixels, its rim softened by `alias_sigma`."""
    kernel = disk(radius, alias_sigma).to(pixels)
    margin = kernel.shape[0] // 2
    padded = extend(pixels, margin, "reflect")
    # By the Fourier transform: on a CPU four times as fast as a convolution at radius 6. What wraps round falls on the
    # margin, which is cut off; the kernel is symmetric, so that it need not be turned.
    height, width = padded.shape[2:]
    waves = torch.fft.rfft2(padded) * torch.fft.rfft2(kernel, s=(height, width))
    blurred: Tensor = torch.fft.irfft2(waves, s=(height, width))
    return blurred[:, :, 2 * margin :, 2 * margin :]


def disk(radius: float, alias_sigma: float) -> Float[Tensor, "k k"]:
    """The defocus kernel: the pixels within `radius`, smoothed by 3 x 3 taps (5 x 5 beyond radius 8), summing to 1."""
    half, taps = (8, 3) if radius <= 8 else (int(radius), 5)
    position = np.arange(-half, half + 1)
    kernel = (position[:, None] ** 2 + position**2 <= radius**2).astype(np.float64)
    kernel /= kernel.sum()
    weights = np.exp(-0.5 * ((np.arange(taps) - taps // 2) / alias_sigma) ** 2)
    weights /= weights.sum()
    for axis in (0, 1):
        padded = np.pad(kernel, taps // 2, mode="reflect")
        shifted = np.lib.stride_tricks.sliding_window_view(padded, taps, axis=axis) @ weights
        kernel = shifted.take(range(taps // 2, taps // 2 + kernel.shape[1 - axis]), axis=1 - axis)
    margin = int(np.flatnonzero(kernel.any(axis=0))[0])  # CIFAR's small disks fill 3 x 3 of the 17 x 17
    return torch.from_numpy(kernel[margin : len(kernel) - margin, margin : len(kernel) - margin])


def zoom_blur(pixels: Float[Tensor, "n 3 h w"], stop: float, step: float) -> Float[Tensor, "n 3 h w"]:
    """The mean of the image and of its zooms by 1, 1 + step, ... below `stop`: the image itself counts twice."""
    # arange's rounding decides whether `stop` itself is among the factors (it is for 1.11 by 0.01), as published.
    factors = np.arange(1, stop, step)
    total = pixels.clone()
    for factor in factors:
        total += clipped_zoom(pixels, float(factor))
    return total / (len(factors) + 1)


def clipped_zoom(images: Float[Tensor, "n c h w"], factor: float) -> Float[Tensor, "n c h w"]:
    """The images enlarged about their centre by `factor` >= 1, bilinearly, corners onto corners."""
    crop = [math.ceil(size / factor) for size in images.shape[2:]]
    top, left = ((size - side) // 2 for size, side in zip(images.shape[2:], crop, strict=True))
    middle = images[:, :, top : top + crop[0], left : left + crop[1]]
    # Not up to the image's size: the published zoom overshoots it by a pixel or so, and trims.
    enlarged = F.interpolate(middle, [round(side * factor) for side in crop], mode="bilinear", align_corners=True)
    top, left = ((big - size) // 2 for size, big in zip(images.shape[2:], enlarged.shape[2:], strict=True))
    return enlarged[:, :, top : top + images.shape[2], left : left + images.shape[3]]
