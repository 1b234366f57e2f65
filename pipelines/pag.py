"""Progressive anatomical grounding (PAG) as one pipeline: data in, a served model version out.

This file is compiled for Kubeflow and is what one machine runs; there is no second version. Reading order is running
order. The control arm beside stages 2 and 3 continues stage 1 with as many steps on images alone: without it, nobody
could say whether the curriculum or merely LoRA made the difference.
"""

from kfp import dsl, kubernetes

from components.deploy.component import deploy
from components.evaluate.component import evaluate
from components.key_phrases.component import key_phrases
from components.preprocess.component import preprocess
from components.register.component import register
from components.shared.image import IMAGE
from components.shared.model_versions import NAME
from components.train_stage.component import train_stage

S3_SECRET = "s2d-s3"
S3_KEYS = ("AWS_S3_ENDPOINT", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")
HOUR_S = 3600


def light(task: dsl.PipelineTask, *, hours: int, cached: bool = False) -> dsl.PipelineTask:
    """What every step needs: the store's secret, retries, a limit. Only what is a function of its inputs is cached."""
    kubernetes.use_secret_as_env(task, secret_name=S3_SECRET, secret_key_to_env={key: key for key in S3_KEYS})
    kubernetes.set_timeout(task, hours * HOUR_S)
    task.set_caching_options(cached)
    return task.set_retry(2, backoff_duration="60s", backoff_factor=2)


def trained(task: dsl.PipelineTask, title: str) -> dsl.PipelineTask:
    """A training step starts a RayJob in its own image and follows it; a retry re-attaches, so it is safe."""
    task.set_display_name(title)
    task.set_env_variable("S2D_IMAGE", IMAGE)
    return light(task, hours=50)


@dsl.pipeline(name="s2d-align-pag")
def pag(
    data_root: str = "s3://s2d/sources/mimic-cxr",
    deploy_target: str = "kserve",
    keyphrase_policy: str = "positive",
    model_preset: str = "paper",
    out_prefix: str = "s3://s2d",
    release_gate: str = "enforce",
    run_name: str = "first",
    stage1_epochs: int = 8,
    stage2_epochs: int = 5,
    stage3_epochs: int = 3,
    train_seed: int = 0,
    train_workers: int = 2,
) -> str:
    """Train S2D-Align in three stages, compare it with its controls, and serve it as a draft writer.

    Args:
        data_root: Prepared data set, or films and reports in a layout that is recognised. Changed data needs a new one.
        deploy_target: Where the model is served. "kserve" on a cluster, "triton" on one machine.
        keyphrase_policy: Which findings become key phrases. "positive" (as the paper), "positive+uncertain" or "all".
        model_preset: Sizes and pretrained parts of the model. "paper", or "tiny" for a machine without a GPU.
        out_prefix: Bucket, and prefix if any, that receives data sets, checkpoints and models.
        release_gate: "enforce" stops a model that the release gate refuses, "record" notes why and goes on.
        run_name: Name of this run. The same name continues an interrupted run; new settings need a new name.
        stage1_epochs: Passes over the data in stage 1, image to report.
        stage2_epochs: Passes in stage 2, which adds an earlier report of the patient.
        stage3_epochs: Passes in stage 3, which adds key phrases.
        train_seed: Seed of the training. Use another one to see how much a result depends on chance.
        train_workers: Number of training processes, one GPU each on a cluster.
    """
    run_uri = f"{out_prefix}/runs/{run_name}"
    training = {"run_uri": run_uri, "preset": model_preset, "workers": train_workers, "seed": train_seed, "accept": ""}

    studies = light(preprocess(data_root=data_root, out_prefix=out_prefix, preset=model_preset), hours=24, cached=True)
    phrases = light(
        key_phrases(dataset_uri=studies.outputs["Output"], out_prefix=out_prefix, policy=keyphrase_policy),
        hours=24,
        cached=True,
    )
    dataset_uri = phrases.outputs["Output"]

    s1 = trained(
        train_stage(stage="s1", dataset_uri=dataset_uri, parent_uri="", epochs=f"{stage1_epochs}", **training),
        "Stage 1: image",
    )
    s2 = trained(
        train_stage(
            stage="s1-s2",
            dataset_uri=dataset_uri,
            parent_uri=s1.outputs["Output"],
            epochs=f"{stage2_epochs}",
            **training,
        ),
        "Stage 2: earlier report",
    )
    s3 = trained(
        train_stage(
            stage="s1-s2-s3",
            dataset_uri=dataset_uri,
            parent_uri=s2.outputs["Output"],
            epochs=f"{stage3_epochs}",
            **training,
        ),
        "Stage 3: key phrases",
    )
    control = trained(
        train_stage(
            stage="s1-i",
            dataset_uri=dataset_uri,
            parent_uri=s1.outputs["Output"],
            epochs=f"{stage2_epochs}+{stage3_epochs}",
            **training,
        ),
        "Control: LoRA on images alone",
    )

    evaluation = light(
        evaluate(
            dataset_uri=dataset_uri,
            full_uri=s3.outputs["Output"],
            s1_uri=s1.outputs["Output"],
            s1_lora_uri=control.outputs["Output"],
            models_uri=f"{out_prefix}/models/{NAME}",
            accept="",
            out_uri=f"{run_uri}/evaluation",
        ),
        hours=24,
    )
    version = light(
        register(
            checkpoint_uri=s3.outputs["Output"],
            dataset_uri=dataset_uri,
            evaluation_uri=evaluation.outputs["Output"],
            out_prefix=out_prefix,
            release_gate=release_gate,
        ),
        hours=4,
    )
    served = light(deploy(model_uri=version.outputs["Output"], target=deploy_target), hours=2)
    return served.output
