"""`python -m components.register --help`"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from components.register.gate import GATE_FILE
from components.register.main import run
from components.shared.step import run_step


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m components.register")
    parser.description = "Make a model version of a checkpoint that passes the release gate."
    parser.add_argument("--checkpoint-uri", required=True, help="checkpoint of the last stage, s3://...")
    parser.add_argument("--dataset-uri", required=True, help="data set it was trained on")
    parser.add_argument("--evaluation-uri", required=True, help="folder that holds evaluation.json")
    parser.add_argument("--out-prefix", required=True, help="where models are kept, such as s3://s2d")
    parser.add_argument("--allow-failed-gate", action="store_true", help="register all the same; the manifest says so")
    parser.add_argument(
        "--gate-file", type=Path, default=GATE_FILE, help="thresholds; by default gate.yaml beside this"
    )
    options = parser.parse_args(arguments)
    o, gate = options, "record" if options.allow_failed_gate else "enforce"
    addresses = (o.checkpoint_uri, o.dataset_uri, o.evaluation_uri, o.out_prefix)
    return run_step(lambda: run(*addresses, gate, gate_file=o.gate_file))


if __name__ == "__main__":
    sys.exit(main())
