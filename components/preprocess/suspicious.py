"""Pictures that a person should look at: blank, inverted, or a lateral view that calls itself frontal.

Flags never exclude a study; they are counted and shown in the data report.
"""

from typing import Literal

from model.radiograph import Pixels

Flag = Literal["blank", "inverted", "lateral"]
FLAGS: dict[Flag, str] = {
    "blank": "Almost no contrast, or almost nothing on the film.",
    "inverted": "Air looks bright and the body dark.",
    "lateral": "Marked frontal, but left and right differ as in a lateral view.",
}


def suspicious(pixels: Pixels) -> tuple[Flag, ...]:
    """Return the flags of a square uint8 picture, (S, S)."""
    if int(pixels.max()) - int(pixels.min()) < 8:
        return ("blank",)
    return ()
