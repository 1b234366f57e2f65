"""Pictures that are no upright chest film, for asking whether a model would still write a report on them.

All are (N, S, S) uint8, as a reader hands them on.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from bench.interventions import mirrored

Images = np.ndarray
EACH = 20  # pictures of a kind that is drawn, not made from films


def drawn(size: int, seed: int) -> dict[str, Images]:
    """Pictures that owe nothing to a film, by name."""
    rng = np.random.default_rng(seed)
    kinds: dict[str, Callable[[], Images]] = {
        "noise": lambda: rng.integers(0, 256, (size, size)).astype(np.uint8),
        "smooth noise": lambda: _smooth(rng, size),
        "blank": lambda: np.full((size, size), rng.integers(256), dtype=np.uint8),
        "ramp": lambda: _ramp(rng, size),
        "photo-like texture (1/f spectrum)": lambda: _spectrum(rng, size),
        "photo-like texture (discs before discs)": lambda: _discs(rng, size),
        "chart": lambda: _chart(rng, size),
        "page of text": lambda: _text(rng, size),
    }
    return {name: np.stack([draw() for _ in range(EACH)]) for name, draw in kinds.items()}


def turned(films: Images) -> dict[str, Images]:
    """The same films in a position or polarity that no reader should hand on."""
    over = np.rot90(films, 2, (1, 2))
    return {
        "inverted": 255 - films,
        "rotated by 90 degrees": np.rot90(films, 1, (1, 2)),
        "rotated by 180 degrees": over,
        "upside down": np.stack([mirrored(film) for film in over]),
        "mirrored": np.stack([mirrored(film) for film in films]),
    }


def recast(films: Images, seed: int) -> dict[str, Images]:
    """Upright films, shown or cut otherwise than the training images were."""
    unit, rng = films / 255, np.random.default_rng(seed)
    return {
        "gamma 0.7": _grey(unit**0.7),
        "gamma 1.5": _grey(unit**1.5),
        "gamma 2": _grey(unit**2),
        "contrast 1.4": _grey(0.5 + 1.4 * (unit - 0.5)),
        "contrast 0.7": _grey(0.5 + 0.7 * (unit - 0.5)),
        "contrast 0.5": _grey(0.5 + 0.5 * (unit - 0.5)),
        "brighter by 30 grey levels": _grey(unit + 30 / 255),
        "darker by 30 grey levels": _grey(unit - 30 / 255),
        "histogram equalised": np.stack([_equalised(film) for film in films]),
        "blurred (2 pixels)": np.stack([ndimage.gaussian_filter(film, 2) for film in films]),
        "noise of 25 grey levels": _grey(unit + rng.normal(0, 25 / 255, films.shape)),
        "10 % cut off all round": np.stack([_cropped(film, 0.1) for film in films]),
        "25 % cut off all round": np.stack([_cropped(film, 0.25) for film in films]),
        "half as large, on black": np.stack([_on_black(film) for film in films]),
        "one half black": np.where(np.arange(films.shape[2]) < films.shape[2] // 2, 0, films).astype(np.uint8),
    }


def _grey(unit: Images) -> Images:
    return np.rint(255 * np.clip(unit, 0, 1)).astype(np.uint8)


def _stretched(image: Images) -> Images:
    low, high = image.min(), image.max()
    return _grey((image - low) / (high - low))


def _smooth(rng: np.random.Generator, size: int) -> Images:
    return _stretched(ndimage.gaussian_filter(rng.normal(size=(size, size)), rng.uniform(2, 40)))


def _ramp(rng: np.random.Generator, size: int) -> Images:
    y, x = np.mgrid[:size, :size]
    angle = rng.uniform(0, 2 * np.pi)
    return _stretched(np.cos(angle) * x + np.sin(angle) * y)


def _spectrum(rng: np.random.Generator, size: int) -> Images:
    """Noise whose amplitude falls with frequency as in photographs."""
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size)))
    frequency[0, 0] = 1
    spectrum = np.fft.fft2(rng.normal(size=(size, size))) / frequency ** rng.uniform(0.8, 2)
    return _stretched(np.fft.ifft2(spectrum).real)


def _discs(rng: np.random.Generator, size: int) -> Images:
    """Discs of all sizes, each before those drawn earlier: edges as where things hide things."""
    picture = Image.new("L", (size, size), int(rng.integers(256)))
    pen = ImageDraw.Draw(picture)
    for radius in sorted(2 + 60 * rng.pareto(2, 300).clip(0, 1.5), reverse=True):
        x, y = rng.uniform(0, size, 2)
        pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=int(rng.integers(256)))
    return np.asarray(picture)


def _chart(rng: np.random.Generator, size: int) -> Images:
    picture = Image.new("L", (size, size), 255)
    pen = ImageDraw.Draw(picture)
    left, bottom = size // 11, size - size // 11
    heights = rng.uniform(0.05, 0.8, rng.integers(4, 12)) * size
    width = (bottom - left) / len(heights)
    for i, height in enumerate(heights):
        bar = [left + i * width, bottom - height, left + (i + 0.7) * width, bottom]
        pen.rectangle(bar, fill=int(rng.integers(200)))
    pen.line([left, left, left, bottom, size - left, bottom], fill=0, width=2)
    for mark in range(5):
        pen.text((2, left + mark * size // 6), str(100 - 20 * mark), fill=0)
    return np.asarray(picture)


def _text(rng: np.random.Generator, size: int) -> Images:
    picture = Image.new("L", (size, size), 255)
    pen = ImageDraw.Draw(picture)
    for line in range(6, size - 12, 12):
        words = ("".join(chr(97 + letter) for letter in rng.integers(0, 26, rng.integers(2, 9))) for _ in range(7))
        pen.text((6, line), " ".join(words), fill=0)
    return np.asarray(picture)


def _equalised(film: Images) -> Images:
    return _grey(np.bincount(film.ravel(), minlength=256).cumsum()[film] / film.size)


def _cropped(film: Images, share: float) -> Images:
    edge, size = round(share * len(film)), (len(film), len(film))
    return np.asarray(Image.fromarray(film[edge:-edge, edge:-edge]).resize(size, Image.Resampling.BILINEAR))


def _on_black(film: Images) -> Images:
    half, quarter = len(film) // 2, len(film) // 4
    out = np.zeros_like(film)
    small = Image.fromarray(film).resize((half, half), Image.Resampling.BILINEAR)
    out[quarter : quarter + half, quarter : quarter + half] = np.asarray(small)
    return out
