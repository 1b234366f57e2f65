"""What is known of a phantom study: one line of truth.jsonl, and its masks.

Boxes and masks follow the stored pixel matrix. Text labels say what the findings text says; image truth says what is in
the picture, mentioned or not.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from components.preprocess.phantom.grammar import may_be_pneumonia, observation_of
from components.preprocess.phantom.patients import DEVICES
from components.preprocess.phantom.state import GENERATOR, StudyState
from components.preprocess.phantom.storage import MASK_SCALE
from components.preprocess.phantom.study import PhantomStudy
from model.records import OBSERVATIONS

Box = tuple[int, int, int, int]  # x_min, y_min, x_max, y_max; max is exclusive


def image_truth(state: StudyState) -> dict[str, int]:
    """Return 1 or 0 for each of the 14 observations. Pneumonia stands for a dense consolidation of a lower zone."""
    present = {observation_of(finding) for finding in state.findings}
    if any(may_be_pneumonia(finding) for finding in state.findings):
        present.add("Pneumonia")
    if all(finding.name in DEVICES for finding in state.findings):
        present.add("No Finding")
    return {name: int(name in present) for name in OBSERVATIONS}


def truth_record(study: PhantomStudy, paths: Sequence[str], root: Path) -> dict[str, Any]:
    """Write the masks below `root`/masks and return the line. `paths` are where the layout has put the images."""
    state, report, frontal = study.state, study.report, study.images[0]
    factor = frontal.storage.factor
    return {
        "dicom_id": frontal.image_id,
        "split": study.split,
        "ctr": round(float(study.ctr), 3),
        "study_id": state.study_id,
        "patient_id": state.patient_id,
        "generator": GENERATOR,
        "seed": state.study_seed,
        "view": state.view,
        "style": state.style,
        "rows": int(frontal.dicom.Rows),
        "columns": int(frontal.dicom.Columns),
        "mask_scale": MASK_SCALE * factor,
        "images": [
            {"dicom_id": image.image_id, "view": image.view, "path": path}
            for image, path in zip(study.images, paths, strict=True)
        ],
        "report_shape": report.shape,
        "findings_text": report.findings,
        "image_truth": image_truth(state),
        "text_labels": report.labels,
        "graph": report.graph,
        "findings": [
            {
                "name": finding.name,
                "observation": observation_of(finding),
                "side": finding.side,
                "zone": finding.zone,
                "severity": finding.severity,
                "change": finding.change,
                "mentioned": finding in report.mentioned,
                **_place(study.masks[finding], f"{state.study_id}_{number}", root, factor),
            }
            for number, finding in enumerate(state.findings)
        ],
        "regions": {
            name: _place(mask, f"{state.study_id}_{name}", root, factor) for name, mask in study.regions.items()
        },
    }


def _place(mask: np.ndarray, name: str, root: Path, factor: int) -> dict[str, Any]:
    """Return box and mask file of a boolean mask; both are None when it is empty, as after a crop.

    factor: stored pixels per pixel of the mask.
    """
    box = bounding_box(mask)
    if box is None:
        return {"box": None, "mask": None}
    path = f"masks/{name}.png"
    Image.fromarray(shrink_mask(mask).astype(np.uint8) * 255).save(root / path)
    return {"box": [side * factor for side in box], "mask": path}


def bounding_box(mask: np.ndarray) -> Box | None:
    ys, xs = np.nonzero(mask)
    if len(ys) == 0:
        return None
    return int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1


def shrink_mask(mask: np.ndarray) -> np.ndarray:
    """Return the mask at 1 / MASK_SCALE, a pixel set when any of its block is. Sides must be multiples of it."""
    rows, columns = mask.shape
    return mask.reshape(rows // MASK_SCALE, MASK_SCALE, columns // MASK_SCALE, MASK_SCALE).any(axis=(1, 3))
