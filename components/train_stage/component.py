"""The Kubeflow face of one training stage."""

from kfp import dsl

from components.shared.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def train_stage(
    stage: str,
    dataset_uri: str,
    parent_uri: str,
    run_uri: str,
    preset: str,
    epochs: str,
    workers: int,
    seed: int,
    accept: str,
    model: dsl.Output[dsl.Model],
    curve: dsl.Output[dsl.HTML],
) -> str:
    """Train one stage of the curriculum and return the address of its checkpoint.

    Args:
        stage: The order up to and with this stage, such as "s1-s2".
        dataset_uri: The enriched data set, with key phrases.
        parent_uri: Checkpoint of the stage before; empty for the first.
        run_uri: Folder of the run in the object store; the same folder resumes.
        preset: The model preset, with changes if any, as in "tiny,connector=mlp".
        epochs: Most passes over the training studies. "5+3" for a control that is given those of two stages.
        workers: Ray Train workers.
        seed: Seed of everything that is drawn.
        accept: What may differ from the parent's, such as "preset,dataset"; empty for nothing.
        model: The checkpoint, for the lineage.
        curve: Loss and learning rate, step by step, as a page.
    """
    from components.train_stage.main import train

    model.uri = train(stage, dataset_uri, parent_uri, run_uri, preset, epochs, workers, seed, accept, curve.path)
    return model.uri
