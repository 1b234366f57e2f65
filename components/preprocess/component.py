"""The Kubeflow face of the preprocessing step."""

from kfp import dsl

from components.shared.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def preprocess(
    data_root: str,
    out_prefix: str,
    dataset: dsl.Output[dsl.Dataset],
    preset: str = "paper",
    source: str = "mimic-cxr",
    name: str = "",
    reference_policy: str = "",
) -> str:
    """Read radiographs and reports, write them as a data set, and return its address.

    Args:
        data_root: Folder of the radiographs and reports, or an s3:// prefix that holds it.
        out_prefix: Bucket and prefix below which data sets are kept.
        dataset: The data set, for the lineage.
        preset: Preset of the model, which gives the size of the images: "paper" or "tiny".
        source: Layout of the folder: "mimic-cxr".
        name: Name of the data set. Empty takes "phantom" for synthetic data, else the source.
        reference_policy: Which other report of a patient is the reference: "prior_only", "nearest", "any" or "none".
            Empty takes the preset's.
    """
    from components.preprocess.main import run

    dataset.uri = run(data_root, source, out_prefix, name, preset, reference_policy)
    return dataset.uri
