"""The published corruptions an image at a time, on numpy, scipy, scikit-image and OpenCV: an oracle for ours on torch.

The formulas and CIFAR-10-C's constants are those of hendrycks/robustness, written down for a second time. Random
numbers come from a generator that the caller passes, in the order and types in which ours draws them, so that results
can be compared pixel by pixel.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt
import skimage.color
from imagecorruptions import corruptions as fork
from PIL import Image
from scipy import ndimage
from skimage.filters import gaussian

FloatImage = npt.NDArray[np.float64]
"""[h, w, 3], in [0, 1]."""

CIFAR: dict[str, list[tuple[float, ...]]] = {
    "gaussian_noise": [(0.04,), (0.06,), (0.08,), (0.09,), (0.1,)],
    "shot_noise": [(500,), (250,), (100,), (75,), (50,)],
    "impulse_noise": [(0.01,), (0.02,), (0.03,), (0.05,), (0.07,)],
    "speckle_noise": [(0.06,), (0.1,), (0.12,), (0.16,), (0.2,)],
    "gaussian_blur": [(0.4,), (0.6,), (0.7,), (0.8,), (1.0,)],
    "glass_blur": [(0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)],
    "defocus_blur": [(0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)],
    "motion_blur": [(6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)],
    "zoom_blur": [(1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)],
    "fog": [(0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)],
    "snow": [
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ],
    "spatter": [
        (0.62, 0.1, 0.7, 0.7, 0.5, 0),
        (0.65, 0.1, 0.8, 0.7, 0.5, 0),
        (0.65, 0.3, 1, 0.69, 0.5, 0),
        (0.65, 0.1, 0.7, 0.69, 0.6, 1),
        (0.65, 0.1, 0.5, 0.68, 0.6, 1),
    ],
    "contrast": [(0.75,), (0.5,), (0.4,), (0.3,), (0.15,)],
    "brightness": [(0.05,), (0.1,), (0.15,), (0.2,), (0.3,)],
    "saturate": [(0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)],
    "jpeg_compression": [(80,), (65,), (58,), (50,), (40,)],
    "pixelate": [(0.95,), (0.9,), (0.85,), (0.75,), (0.65,)],
    "elastic_transform": [(0, 0, 2.56), (1.6, 6.4, 2.24), (2.56, 1.92, 1.92), (3.2, 1.28, 1.6), (3.2, 0.96, 0.96)],
}

ELASTIC_IMAGENET: list[tuple[float, ...]] = [
    (488, 170.8, 24.4),
    (488, 19.52, 48.8),
    (12.2, 2.44, 4.88),
    (17.08, 2.44, 4.88),
    (29.28, 2.44, 4.88),
]
"""The published ones; the fork has its own elastic transform."""

FROST: dict[str, list[tuple[float, float]]] = {
    "imagenet": [(1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)],
    "cifar": [(1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)],
}


def uniform(g: np.random.Generator, low: float, high: float, *shape: int) -> FloatImage:
    return np.asarray(g.random(shape, dtype=np.float32) * np.float64(high - low) + low)


def centred_zoom(layer: FloatImage, factor: float) -> FloatImage:
    side = len(layer)
    crop = int(np.ceil(side / factor))
    top = (side - crop) // 2
    zooms = (factor, factor) + (1,) * (layer.ndim - 2)
    big = ndimage.zoom(layer[top : top + crop, top : top + crop], zooms, order=1)
    top = (len(big) - side) // 2
    return np.asarray(big[top : top + side, top : top + side])


def gaussian_noise(x: FloatImage, g: np.random.Generator, sigma: float) -> FloatImage:
    return x + sigma * g.standard_normal((3, *x.shape[:2]), dtype=np.float32).transpose(1, 2, 0)


def speckle_noise(x: FloatImage, g: np.random.Generator, sigma: float) -> FloatImage:
    return x + x * sigma * g.standard_normal((3, *x.shape[:2]), dtype=np.float32).transpose(1, 2, 0)


def shot_noise(x: FloatImage, g: np.random.Generator, photons: float) -> FloatImage:
    # float32, because the generator's path depends on the last bit of the expectation.
    expected = x.astype(np.float32).transpose(2, 0, 1) * np.float32(photons)
    return np.asarray(g.poisson(expected).transpose(1, 2, 0) / photons)


def impulse_noise(x: FloatImage, g: np.random.Generator, amount: float) -> FloatImage:
    draw = g.random((3, *x.shape[:2]), dtype=np.float32).transpose(1, 2, 0)
    salted = np.where(draw < amount / 2, 1.0, x)
    return np.where((draw >= amount / 2) & (draw < amount), 0.0, salted)


def gaussian_blur(x: FloatImage, g: np.random.Generator, sigma: float) -> FloatImage:
    return np.asarray(gaussian(x, sigma=sigma, channel_axis=-1))


def glass_blur(x: FloatImage, g: np.random.Generator, sigma: float, reach: int, rounds: int) -> FloatImage:
    y = (gaussian(x, sigma=sigma, channel_axis=-1) * 255).astype(np.uint8)
    side = len(y)
    moves = g.integers(-reach, reach, (rounds, 2, side - 2 * reach, side - 2 * reach))
    for down, right in moves:
        for h in range(side - reach, reach, -1):
            for w in range(side - reach, reach, -1):
                row, column = h + down[h - reach - 1, w - reach - 1], w + right[h - reach - 1, w - reach - 1]
                y[h, w], y[row, column] = y[row, column], y[h, w]  # views of three channels: they alias, as published
    return np.asarray(gaussian(y / 255, sigma=sigma, channel_axis=-1))


def defocus_blur(x: FloatImage, g: np.random.Generator, radius: float, alias: float) -> FloatImage:
    return np.asarray(cv2.filter2D(x, -1, fork.disk(radius, alias)))


def motion_blur(x: FloatImage, g: np.random.Generator, radius: int, sigma: float) -> FloatImage:
    return np.asarray(fork._motion_blur(x, radius, sigma, float(uniform(g, -45, 45))))


def zoom_blur(x: FloatImage, g: np.random.Generator, stop: float, step: float) -> FloatImage:
    factors = np.arange(1, stop, step)
    return np.asarray((x + sum(centred_zoom(x, factor) for factor in factors)) / (len(factors) + 1))


def fog(x: FloatImage, g: np.random.Generator, thickness: float, decay: float) -> FloatImage:
    side = 2 ** int(np.ceil(np.log2(len(x))))
    stream = uniform(g, -1, 1, side * side - 1)
    used = 0

    def replay(low: float, high: float, shape: tuple[int, ...]) -> FloatImage:
        nonlocal used
        used += int(np.prod(shape))
        return high * stream[used - int(np.prod(shape)) : used].reshape(shape)

    original = np.random.uniform
    np.random.uniform = replay  # type: ignore[assignment]
    try:
        fractal = fork.plasma_fractal(side, decay)[: len(x), : len(x), None]
    finally:
        np.random.uniform = original
    return np.asarray((x + thickness * fractal) * x.max() / (x.max() + thickness))


def snow(x: FloatImage, g: np.random.Generator, *c: float) -> FloatImage:
    layer = centred_zoom(c[0] + c[1] * g.standard_normal((1, *x.shape[:2]), dtype=np.float32)[0], c[2])
    layer[layer < c[3]] = 0
    layer = np.floor(np.clip(layer, 0, 1) * 255)
    layer = np.round(fork._motion_blur(layer, c[4], c[5], float(uniform(g, -135, -45)))) / 255
    grey = cv2.cvtColor(x.astype(np.float32), cv2.COLOR_RGB2GRAY)[..., None]
    white = c[6] * x + (1 - c[6]) * np.maximum(x, grey * 1.5 + 0.5)
    return np.asarray(white + layer[..., None] + layer[::-1, ::-1, None])


def spatter(x: FloatImage, g: np.random.Generator, *c: float) -> FloatImage:
    layer = gaussian(c[0] + c[1] * g.standard_normal((1, *x.shape[:2]), dtype=np.float32)[0], sigma=c[2])
    if c[5] == 1:
        mud = gaussian((layer > c[3]).astype(np.float32), sigma=c[4])[..., None]
        mud = np.where(mud < 0.8, 0, mud)
        return np.asarray(x * (1 - mud) + mud * np.array([63, 42, 20]) / 255)
    levels = (np.where(layer < c[3], 0, layer) * 255).astype(np.uint8)
    distance = cv2.distanceTransform(255 - cv2.Canny(levels, 50, 150), cv2.DIST_L2, 5)
    shade = cv2.equalizeHist(cv2.blur(np.minimum(distance, 20), (3, 3)).astype(np.uint8))
    shade = cv2.filter2D(shade, cv2.CV_8U, np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], np.float32))
    water = levels * cv2.blur(shade, (3, 3)).astype(np.float32)
    return np.asarray(x + (water / water.max() * c[4])[..., None] * np.array([175, 238, 238]) / 255)


def contrast(x: FloatImage, g: np.random.Generator, factor: float) -> FloatImage:
    means = x.mean(axis=(0, 1))
    return np.asarray((x - means) * factor + means)


def brightness(x: FloatImage, g: np.random.Generator, added: float) -> FloatImage:
    hsv = skimage.color.rgb2hsv(x)
    hsv[..., 2] = np.clip(hsv[..., 2] + added, 0, 1)
    return np.asarray(skimage.color.hsv2rgb(hsv))


def saturate(x: FloatImage, g: np.random.Generator, factor: float, added: float) -> FloatImage:
    hsv = skimage.color.rgb2hsv(x)
    hsv[..., 1] = np.clip(hsv[..., 1] * factor + added, 0, 1)
    return np.asarray(skimage.color.hsv2rgb(hsv))


def jpeg_compression(x: FloatImage, g: np.random.Generator, quality: int) -> FloatImage:
    stream = io.BytesIO()
    Image.fromarray(np.uint8(np.round(x * 255))).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream)) / 255


def pixelate(x: FloatImage, g: np.random.Generator, share: float) -> FloatImage:
    small = (int(x.shape[1] * share), int(x.shape[0] * share))
    image = Image.fromarray(np.uint8(np.round(x * 255))).resize(small, Image.Resampling.BOX)
    return np.asarray(image.resize(x.shape[1::-1], Image.Resampling.BOX)) / 255


def elastic_transform(x: FloatImage, g: np.random.Generator, size: float, smoothing: float, move: float) -> FloatImage:
    side = len(x)
    centre, arm = side // 2, side // 3
    points = np.array([[arm, arm], [arm, -arm], [-arm, -arm]], np.float32) + centre
    moved = (points + uniform(g, -move, move, 3, 2)).astype(np.float32)
    matrix = cv2.getAffineTransform(points, moved)
    turned = cv2.warpAffine(x.astype(np.float32), matrix, (side, side), borderMode=cv2.BORDER_REFLECT_101)
    shift = [size * gaussian(d, smoothing, mode="reflect", truncate=3) for d in uniform(g, -1, 1, 2, side, side)]
    at = np.mgrid[:side, :side] + np.stack(shift)
    return np.stack([ndimage.map_coordinates(turned[..., k], at, order=1, mode="reflect") for k in range(3)], axis=-1)


def published(
    name: str, canvas: npt.NDArray[np.uint8], strength: tuple[float, ...], g: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """uint8 [h, w, 3]: corruption `name` of a square image; fractions of a level are cut off, as published."""
    function: Callable[..., FloatImage] = globals()[name]
    return np.asarray(np.clip(function(canvas / 255.0, g, *strength), 0, 1) * 255).astype(np.uint8)
