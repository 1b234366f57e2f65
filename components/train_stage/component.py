"""The Kubeflow face of one training stage."""

from kfp import dsl

from components.shared.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def train_stage(
    stage: int,
    dataset_uri: str,
    parent_uri: str,
    run_uri: str,
    preset: str,
    epochs: int,
    more_epochs: int,
    workers: int,
    seed: int,
    arm: str,
    model: dsl.Output[dsl.Model],
) -> str:
    """Train one stage of the curriculum and return the address of its checkpoint.

    Args:
        stage: Stage of the curriculum, 1 to 3.
        dataset_uri: The enriched data set, with key phrases.
        parent_uri: Checkpoint of the stage before; empty for stage 1.
        run_uri: Folder of the run in the object store; the same folder resumes.
        preset: Name of the model preset.
        epochs: Passes over the training studies.
        more_epochs: Added to `epochs`, for a control that is given the steps of two stages.
        workers: Ray Train workers.
        seed: Seed of everything that is drawn.
        arm: "full", or "image_only" for the control that never sees a text.
        model: The checkpoint, for the lineage.
    """
    from components.train_stage.main import train

    model.uri = train(stage, dataset_uri, parent_uri, run_uri, preset, epochs + more_epochs, workers, seed, arm)
    return model.uri
