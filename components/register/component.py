"""The Kubeflow face of the release gate and the model registry."""

from kfp import dsl

from components.shared.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def register(
    checkpoint_uri: str,
    dataset_uri: str,
    evaluation_uri: str,
    out_prefix: str,
    release_gate: str,
    model: dsl.Output[dsl.Model],
) -> str:
    """Make an immutable model version of a checkpoint that passes the release gate, and return its address.

    Args:
        checkpoint_uri: Checkpoint of the last stage.
        dataset_uri: The data set it was trained on; its images say what is in distribution.
        evaluation_uri: Folder of the evaluation that the gate reads.
        out_prefix: Bucket and prefix below which models are kept.
        release_gate: "enforce" stops a model that the gate refuses; "record" writes the refusal into its manifest.
        model: The model version, for the lineage.
    """
    from components.register.main import run

    model.uri = run(checkpoint_uri, dataset_uri, evaluation_uri, out_prefix, release_gate)
    return model.uri
