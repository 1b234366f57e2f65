"""The Kubeflow face of the evaluation."""

from kfp import dsl

from components.shared.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def evaluate(
    dataset_uri: str,
    full_uri: str,
    s1_uri: str,
    s1_lora_uri: str,
    models_uri: str,
    accept: str,
    out_uri: str,
    metrics: dsl.Output[dsl.Metrics],
    confusion: dsl.Output[dsl.ClassificationMetrics],
    page: dsl.Output[dsl.HTML],
    table: dsl.Output[dsl.Markdown],
) -> str:
    """Score the test patients' reports beside their controls, and return the folder of the results.

    Args:
        dataset_uri: The data set with the test patients.
        full_uri: Checkpoint of the last stage.
        s1_uri: Checkpoint of stage 1.
        s1_lora_uri: Checkpoint of the control that saw images alone.
        models_uri: Where model versions lie. The one now served is compared with; empty for none.
        accept: "dataset" judges checkpoints on other data than they were trained on; empty refuses that.
        out_uri: Folder that receives evaluation.json, predictions.jsonl, table.md and report.html.
        metrics: The headline number of every arm and the full model's others, with their intervals.
        confusion: Status of all observations, reference against draft.
        page: Radiographs beside drafts, references and evidence maps.
        table: Every arm with its interval, and which controls are not beaten.
    """
    from components.evaluate.artifacts import run_and_show

    checkpoints = {"full": full_uri, "s1": s1_uri, "s1_lora": s1_lora_uri}
    return run_and_show(dataset_uri, checkpoints, out_uri, models_uri, accept, metrics, confusion, page, table)
