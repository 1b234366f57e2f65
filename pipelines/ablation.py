"""A table as one pipeline: data in, every row trained on the same data with every seed, one comparison out.

Like pag.py it is compiled for Kubeflow and is what one machine runs. The table and the number of seeds decide the
graph, so they are fixed when it is compiled; the rest is asked for at run time.
"""

from typing import Any

from kfp import dsl

from components.evaluate.ablation.component import compare
from components.key_phrases.component import key_phrases
from components.preprocess.component import preprocess
from components.train_stage.component import train_stage
from model.errors import ConfigError
from pipelines.ablation_plan import Training, comparison, trainings
from pipelines.ablation_table import Table, with_changes
from pipelines.pag import light, trained


def ablation(table: Table, seeds: int) -> Any:
    """The pipeline of one table with the training seeds 0 to `seeds` - 1. Raises ConfigError."""
    if seeds < 1:
        raise ConfigError(f"{seeds} seeds train nothing; use at least 1, and 3 to see what chance does")
    work = trainings(table, seeds)
    rows = comparison(table, seeds).model_dump_json()

    @dsl.pipeline(name=f"s2d-align-ablation-{table.name}", description=table.title)
    def pipeline(
        data_root: str = "s3://s2d/sources/mimic-cxr",
        keyphrase_policy: str = "positive",
        model_preset: str = "paper",
        out_prefix: str = "s3://s2d",
        run_name: str = "ablation",
        stage1_epochs: int = 8,
        stage2_epochs: int = 5,
        stage3_epochs: int = 3,
        train_workers: int = 2,
    ) -> str:
        """Train every row of a table with several seeds on the same data, and compare the rows.

        Args:
            data_root: Prepared data set, or films and reports in a layout that is recognised.
            keyphrase_policy: Which findings become phrases. "positive" (as the paper), "positive+uncertain" or "all".
            model_preset: Sizes and pretrained parts of the model. "paper", or "tiny" for a machine without a GPU.
            out_prefix: Bucket, and prefix if any, that receives data sets and checkpoints.
            run_name: Name of this run. Tables under the same name share what they have in common.
            stage1_epochs: Passes over the data in stage 1; rows with another budget are given sums of these three.
            stage2_epochs: Passes in stage 2.
            stage3_epochs: Passes in stage 3.
            train_workers: Number of training processes, one GPU each on a cluster.
        """
        run_uri = f"{out_prefix}/runs/{run_name}"
        epochs = {"1": stage1_epochs, "2": stage2_epochs, "3": stage3_epochs}
        studies = light(
            preprocess(data_root=data_root, out_prefix=out_prefix, preset=model_preset), hours=24, cached=True
        )
        phrases = light(
            key_phrases(dataset_uri=studies.outputs["Output"], out_prefix=out_prefix, policy=keyphrase_policy),
            hours=24,
            cached=True,
        )
        dataset_uri = phrases.outputs["Output"]
        done: dict[Training, dsl.PipelineTask] = {}
        for training in work:
            done[training] = trained(
                train_stage(
                    stage=training.stage,
                    dataset_uri=dataset_uri,
                    parent_uri=done[training.parent].outputs["Output"] if training.parent else "",
                    run_uri=f"{run_uri}/{training.run_folder}",
                    preset=with_changes(f"{model_preset}", training.changes),
                    epochs="+".join(f"{epochs[share]}" for share in training.budget[-1].split("+")),
                    workers=train_workers,
                    seed=training.seed,
                    accept=training.accept,
                ),
                f"seed {training.seed}: {training.stage}"
                + ("" if training.variant == "base" else f" {training.variant}"),
            )
        task = compare(dataset_uri=dataset_uri, run_uri=run_uri, rows=rows, out_uri=f"{run_uri}/compare/{table.name}")
        task.after(*done.values()).set_display_name("compare")
        return light(task, hours=24).outputs["Output"]

    return pipeline
