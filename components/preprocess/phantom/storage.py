"""How one radiograph is stored: the nuisance that a reader must undo, drawn as real archives show it."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from PIL import Image

from components.preprocess.phantom.state import StudyState

RENDERED_BITS = 12
MASK_SCALE = 4  # masks are stored at a quarter of the rendered matrix
LARGE_SIDE = 2900  # of a detector's matrix, such as 2828 x 2320 or 2991 x 2992
LARGE_SHARE = 0.01
DECLARES_PADDING = 0.3  # of the padded images of a varied archive
CODED_VIEW_ONLY = 0.04  # of the frontal images: ViewPosition is blank, ViewCodeSequence tells
HAS_VIEW_CODE = 0.7

View = Literal["PA", "AP", "LATERAL"]
Margins = tuple[int, ...]  # top, bottom, left, right

VIEW_MEANINGS: dict[View, str] = {"PA": "postero-anterior", "AP": "antero-posterior", "LATERAL": "left lateral"}


@dataclass(frozen=True, kw_only=True)
class Storage:
    """What the file of one image says and how its values lie in it."""

    bits: int  # 10 to 16
    inverted: bool  # MONOCHROME1
    windowed: bool
    slope: float | None  # None: no rescale in the file
    intercept: float
    computed: bool  # CR instead of DX
    margins: Margins  # in rendered pixels: positive pads black, negative crops
    factor: int = 1  # stored pixels per rendered pixel along each side
    declares_padding: bool = False  # PixelPaddingValue 0, whatever the polarity
    view_position: str = ""  # the attribute as it stands in the file
    view_meaning: str = ""  # of ViewCodeSequence; "" when there is none


def choose_storage(state: StudyState, size: int, *, varied: bool = False) -> Storage:
    """Draw how the frontal image of a study is stored. Margins are multiples of the mask scale: masks stay aligned.

    varied: also what only some archives have: large matrices, declared padding, views that only a code names.
    """
    rng = np.random.default_rng([state.study_seed, 2])
    computed = state.view == "AP" and bool(rng.random() < 0.5)
    rescales = bool(rng.random() < (0.5 if computed else 0.3))
    margins = _margins(rng, size)
    chosen = Storage(
        bits=int(rng.choice([10, 12, 14, 15, 16])),
        inverted=bool(rng.random() < 0.5),
        windowed=bool(rng.random() < 0.5),
        # The DX object definition admits slope 1 and intercept 0 alone (PS3.3 C.8.11.3); CR has no such rule.
        slope=(float(rng.choice([0.5, 2.0])) if computed else 1.0) if rescales else None,
        intercept=float(rng.choice([-1024.0, 100.0])) if computed and rescales else 0.0,
        computed=computed,
        margins=margins,
        view_position=state.view,
    )
    return _vary(chosen, state, size) if varied else chosen


def lateral_storage(frontal: Storage, state: StudyState, size: int) -> Storage:
    """The second image comes from the same machine, with margins and a view name of its own."""
    rng = np.random.default_rng([state.study_seed, 24])
    position = str(rng.choice(["LL", "LATERAL", ""], p=[0.5, 0.35, 0.15]))
    coded = position == "" or rng.random() < HAS_VIEW_CODE
    margins = _margins(rng, size)
    meaning = str(rng.choice(["lateral", VIEW_MEANINGS["LATERAL"]])) if coded else ""
    return replace(
        frontal,
        margins=margins,
        factor=_factor(rng, size),
        declares_padding=frontal.declares_padding and max(margins) > 0,
        view_position=position,
        view_meaning=meaning,
    )


def _margins(rng: np.random.Generator, size: int) -> Margins:
    pads, crops = (MASK_SCALE * (int(share * size) // MASK_SCALE) for share in (0.08, 0.03))
    drawn = rng.choice(np.arange(-crops, pads + 1, MASK_SCALE), size=4) * (rng.random(4) < 0.4)
    return int(drawn[0]), int(drawn[1]), int(drawn[2]), int(drawn[3])


def _vary(storage: Storage, state: StudyState, size: int) -> Storage:
    """Draws of their own, so that the others are equal with and without them."""
    rng = np.random.default_rng([state.study_seed, 22])
    factor = _factor(rng, size)
    declares = bool(rng.random() < DECLARES_PADDING) and max(storage.margins) > 0
    blank, coded = rng.random(2) < (CODED_VIEW_ONLY, HAS_VIEW_CODE)
    return replace(
        storage,
        factor=factor,
        declares_padding=declares,
        view_position="" if blank else state.view,
        view_meaning=VIEW_MEANINGS[state.view] if blank or coded else "",
    )


def _factor(rng: np.random.Generator, size: int) -> int:
    return max(1, round(LARGE_SIDE / size)) if rng.random() < LARGE_SHARE else 1


def apply_margins(array: np.ndarray, margins: Margins, fill: int = 0) -> np.ndarray:
    """Pad with `fill` where a margin is positive and crop where it is negative."""
    top, bottom, left, right = margins
    cropped = array[max(-top, 0) : array.shape[0] - max(-bottom, 0), max(-left, 0) : array.shape[1] - max(-right, 0)]
    pads = ((max(top, 0), max(bottom, 0)), (max(left, 0), max(right, 0)))
    return np.pad(cropped, pads, constant_values=fill)


def store_values(image: np.ndarray, storage: Storage, noise_seed: tuple[int, ...]) -> np.ndarray:
    """Return the 12-bit `image` (bone bright) as the matrix of the file: bits, size, polarity, margins and padding."""
    top_value = 2**storage.bits - 1
    scaled = image.astype(np.float64) * (top_value / (2**RENDERED_BITS - 1))
    if storage.factor > 1:
        scaled = np.clip(_enlarge(scaled, storage.factor, noise_seed), 0, top_value)
    values = np.rint(scaled).astype(np.uint16)
    if storage.inverted:
        values = top_value - values
    black = top_value if storage.inverted else 0
    if storage.declares_padding:  # 0 stands for nothing, so no pixel of the picture may have it
        values, black = np.maximum(values, 1), 0
    margins = tuple(margin * storage.factor for margin in storage.margins)
    return apply_margins(values, margins, black)


def _enlarge(values: np.ndarray, factor: int, noise_seed: tuple[int, ...]) -> np.ndarray:
    """A finer detector: interpolated values with noise of its own."""
    side = (values.shape[1] * factor, values.shape[0] * factor)
    fine = np.asarray(Image.fromarray(values.astype(np.float32)).resize(side, Image.Resampling.BILINEAR))
    noise = np.random.default_rng([*noise_seed, 25]).standard_normal(fine.shape, dtype=np.float32)
    return fine + noise * np.float32(0.004 * values.max())
