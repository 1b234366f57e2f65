"""The Kubeflow face of the comparison."""

from kfp import dsl

from components.shared.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def compare(
    dataset_uri: str,
    run_uri: str,
    rows: str,
    out_uri: str,
    metrics: dsl.Output[dsl.Metrics],
    page: dsl.Output[dsl.HTML],
    table: dsl.Output[dsl.Markdown],
) -> str:
    """Score the test reports of every row and seed, compare the rows, and return the folder of the results.

    Args:
        dataset_uri: The data set with the test patients.
        run_uri: Folder of the run, below which the checkpoints lie.
        rows: The rows of the table with the checkpoints of every seed, as JSON.
        out_uri: Folder that receives comparison.json, table.md and page.html.
        metrics: The headline number of every row, and its distance to the full curriculum.
        page: The table with a drawing of the distances.
        table: The table as Markdown.
    """
    from components.evaluate.ablation.artifacts import run_and_show

    return run_and_show(dataset_uri, run_uri, rows, out_uri, metrics, page, table)
