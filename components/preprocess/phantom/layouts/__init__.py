"""The layouts that a phantom can be written in, one file each: how a study is written, and the tables over all."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from components.preprocess.phantom.layouts import annotation_json, dicom_folder, iu_xray, mimic_cxr, mimic_cxr_jpg
from components.preprocess.phantom.study import PhantomStudy

Rows = dict[str, Any]  # JSON; "images" holds the paths of the study's images, the rest is for the layout's tables


class Layout(NamedTuple):
    """write_study runs in any process and order; write_tables once, with the rows of all studies in order."""

    write_study: Callable[[Path, PhantomStudy], Rows]
    write_tables: Callable[[Path, Sequence[Rows]], None]


BY_NAME = {
    "mimic-cxr": Layout(mimic_cxr.write_study, mimic_cxr.write_tables),
    "mimic-cxr-jpg": Layout(mimic_cxr_jpg.write_study, mimic_cxr_jpg.write_tables),
    "iu-xray": Layout(iu_xray.write_study, iu_xray.write_tables),
    "annotation-json": Layout(annotation_json.write_study, annotation_json.write_tables),
    "dicom-folder": Layout(dicom_folder.write_study, dicom_folder.write_tables),
}
LAYOUTS = tuple(BY_NAME)
ONE_STUDY_PER_PATIENT = ("iu-xray",)
