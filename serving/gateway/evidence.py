"""One PNG per report: the radiograph, and beside it the radiograph under the evidence map of each sentence."""

import textwrap
from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from model.records import Report, Sentence

PANEL = 300
CAPTION = 96
LINE = 20
GAP = 12
COLUMNS = 4
BACKGROUND, INK, WARNING = (16, 18, 22), (225, 228, 232), (255, 196, 86)
# Dark to bright, readable without colour vision: anchors of the "inferno" map.
HEAT = np.array([[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]], dtype=np.float64)
OPACITY = 0.6


def evidence_png(report: Report, radiograph_png: bytes) -> bytes:
    """Draw a report's evidence over its radiograph (square, 8-bit grey PNG, never flipped)."""
    with Image.open(BytesIO(radiograph_png)) as image:
        radiograph = image.convert("L").resize((PANEL, PANEL), Image.Resampling.BICUBIC)
    panels = 1 + len(report.sentences)
    columns = min(panels, COLUMNS)
    rows = -(-panels // columns)
    width = columns * (PANEL + GAP) + GAP
    header = _header(report, width)
    height = GAP + LINE * len(header)
    sheet = Image.new("RGB", (width, height + rows * (PANEL + CAPTION)), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for row, line in enumerate(header):
        draw.text((GAP, 6 + LINE * row), line, fill=WARNING, font=ImageFont.load_default(14))
    for index in range(panels):
        left, top = GAP + index % columns * (PANEL + GAP), height + index // columns * (PANEL + CAPTION)
        sentence = report.sentences[index - 1] if index else None
        sheet.paste(_panel(radiograph, sentence), (left, top))
        _write_caption(draw, sentence, (left, top + PANEL + 4))
    out = BytesIO()
    sheet.save(out, format="PNG")
    return out.getvalue()


def heat_map(grid: np.ndarray, side: int) -> np.ndarray:
    """A (g, g) map as smooth intensities in [0, 1], (side, side); the strongest place is 1."""
    scaled = Image.fromarray(grid.astype(np.float32)).resize((side, side), Image.Resampling.BICUBIC)
    smooth = np.clip(np.asarray(scaled, dtype=np.float64), 0, None)
    return smooth / max(float(smooth.max()), 1e-12)


def _panel(radiograph: Image.Image, sentence: Sentence | None) -> Image.Image:
    grey = np.repeat(np.asarray(radiograph, dtype=np.float64)[..., None], 3, axis=2)
    if sentence is None or sentence.evidence is None:
        return Image.fromarray(grey.astype(np.uint8))
    heat = heat_map(np.array(sentence.evidence.grid), radiograph.width)
    positions = np.linspace(0, 1, len(HEAT))
    colour = np.stack([np.interp(heat, positions, HEAT[:, channel]) for channel in range(3)], axis=2)
    opacity = (OPACITY * heat)[..., None]
    return Image.fromarray((grey * (1 - opacity) + colour * opacity).astype(np.uint8))


def _header(report: Report, width: int) -> list[str]:
    """Who wrote it, and every warning in full: none of them may be cut off."""
    model = report.model
    first = f"AI draft - requires radiologist review.  {model.name} {model.version}, trained on {model.trained_on}"
    warnings = report.warnings[1:]  # the first one is the draft warning itself
    return [line for text in (first, *warnings) for line in textwrap.wrap(text, width=width // 8)]


def _write_caption(draw: ImageDraw.ImageDraw, sentence: Sentence | None, corner: tuple[int, int]) -> None:
    x, y = corner
    if sentence is None:
        draw.text((x, y), "radiograph as the model saw it", fill=INK, font=ImageFont.load_default(13))
        return
    lines = textwrap.wrap(sentence.text, width=46, max_lines=3, placeholder=" ...")
    draw.multiline_text((x, y), "\n".join(lines), fill=INK, font=ImageFont.load_default(13), spacing=3)
    state = sentence.evidence.status if sentence.evidence else "none"
    note = f"confidence {sentence.confidence:.2f}  |  evidence: {state}"
    colour = INK if state == "validated" else WARNING
    draw.text((x, y + CAPTION - 26), note, fill=colour, font=ImageFont.load_default(12))
