"""Radiographs and evidence maps inside a page, small enough that a page of many studies stays a page."""

import base64
import html
from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw

SIDE = 480  # pixels of the longer side: twice what is shown, for screens of high density
QUALITY = 85


def figure(image: Image.Image, caption: str) -> str:
    """A JPEG as data within the page."""
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    sink = BytesIO()
    image.save(sink, "jpeg", quality=QUALITY)
    data = base64.b64encode(sink.getvalue()).decode()
    shown = html.escape(caption)
    return f'<figure><img alt="{shown}" src="data:image/jpeg;base64,{data}"><figcaption>{shown}</figcaption></figure>'


def overlay(pixels: np.ndarray, grid: np.ndarray, status: str) -> Image.Image:
    """The map in red over the radiograph, with its status written into the picture so that it cannot be cut off."""
    size = pixels.shape[0]
    unit = (grid - grid.min()) / max(float(np.ptp(grid)), 1e-12)
    heat = Image.fromarray(unit.astype(np.float32), mode="F").resize((size, size), Image.Resampling.BILINEAR)
    weight = 0.6 * np.asarray(heat)[..., None]
    colours = np.array([255.0, 40.0, 0.0])
    mixed = (1 - weight) * pixels[..., None].astype(float) + weight * colours
    image = Image.fromarray(mixed.clip(0, 255).astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, SIDE - 26, SIDE, SIDE), fill=(0, 0, 0))
    draw.text((6, SIDE - 23), f"evidence: {status}", fill=(255, 255, 255), font_size=18)
    return image
