"""`python -m components.evaluate --help`"""

import argparse
import sys
from collections.abc import Sequence

from components.evaluate.main import run
from components.evaluate.table import format_table
from components.shared.step import run_step


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m components.evaluate")
    parser.description = "Write the reports of the test patients, score them beside their controls, and keep both."
    parser.add_argument("--dataset-uri", required=True, help="data set with the test patients, s3://...")
    parser.add_argument("--full-uri", required=True, help="checkpoint of the last stage")
    parser.add_argument("--s1-uri", help="checkpoint of stage 1")
    parser.add_argument("--s1-lora-uri", help="checkpoint of the control that saw images alone")
    parser.add_argument("--out-uri", required=True, help="folder for evaluation.json, predictions.jsonl, report.html")
    parser.add_argument("--models-uri", default="", help="where versions lie; the one now served is compared with")
    parser.add_argument("--accept", default="", help="dataset: judge checkpoints on other data than their own")
    options = parser.parse_args(arguments)
    named = {"full": options.full_uri, "s1": options.s1_uri, "s1_lora": options.s1_lora_uri}
    checkpoints = {arm: uri for arm, uri in named.items() if uri}
    comparison = {"models_uri": options.models_uri, "accept": options.accept}
    return run_step(lambda: format_table(run(options.dataset_uri, checkpoints, options.out_uri, **comparison)))


if __name__ == "__main__":
    sys.exit(main())
