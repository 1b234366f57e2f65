"""The Kubeflow face of the preprocessing step."""

from kfp import dsl

from components.shared.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def preprocess(
    data_root: str,
    out_prefix: str,
    dataset: dsl.Output[dsl.Dataset],
    data_report: dsl.Output[dsl.HTML],
    preset: str = "paper",
    source: str = "",
    reference_policy: str = "",
    radgraph: str = "",
    reports: str = "",
    deidentified: bool = False,
    equalize: str = "",
    max_excluded: float = 0.05,
) -> str:
    """Read radiographs and reports, write them as one verified data set, and return its address.

    Args:
        data_root: Prepared data set, or folder, s3:// prefix or DICOMweb address with radiographs and reports.
        out_prefix: Bucket and prefix below which data sets are kept.
        dataset: The data set, for the lineage.
        data_report: Counts, exclusions, prevalence and examples of the data set.
        preset: Preset of the model, which gives the size of the images. "paper" or "tiny".
        source: "mimic-cxr", "mimic-cxr-jpg", "iu-xray", "annotation-json", "dicom-folder". Empty recognises the layout.
        reference_policy: Which other report is the reference. "prior_only", "nearest", "any", "similar" or "none".
        radgraph: MIMIC only, the published graphs. A name below the root.
        reports: DICOM only, the texts as a CSV table or FHIR DiagnosticReports.
        deidentified: DICOM only, whether the data are de-identified already.
        equalize: DICOM only. "none", or "mimic_jpg" for grey values as in MIMIC-CXR-JPG.
        max_excluded: Share of damaged studies that is put up with.
    """
    from components.preprocess.artifacts import run_and_show

    return run_and_show(
        dataset,
        data_report,
        root=data_root,
        out_prefix=out_prefix,
        preset=preset,
        source=source,
        reference_policy=reference_policy,
        radgraph=radgraph,
        reports=reports,
        deidentified=deidentified,
        equalize=equalize,
        max_excluded=max_excluded,
    )
