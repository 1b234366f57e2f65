"""Runs one heavy metric in an environment that has its package; needs nothing else, above all nothing of this project.

    PYTHON -I heavy_worker.py METRIC < pairs.jsonl > scores.jsonl

The first line says {"package": name and version} or {"missing": what and how to get it}; then one line per study.
"""

import importlib.util
import json
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import NamedTuple

Scores = dict[str, Sequence[float]]  # key -> one value per pair


class Weights(NamedTuple):
    """One file that shows that a model has been fetched."""

    repository: str
    file: str = "config.json"
    cache: str | None = None  # the folder where the package looks instead of the hub's own cache

    def are_there(self) -> bool:
        from huggingface_hub import try_to_load_from_cache

        folder = os.path.expanduser(self.cache) if self.cache else None
        return isinstance(try_to_load_from_cache(self.repository, self.file, cache_dir=folder), str)

    def how_to_get(self) -> str:
        return f"hf download {self.repository}" + (f" {self.file} --cache-dir {self.cache}" if self.cache else "")


class Metric(NamedTuple):
    """Where a metric comes from: everything that must be installed and fetched before it can be computed."""

    module: str
    package: str  # its distribution
    install: str  # what pip is given
    weights: tuple[Weights, ...]
    compute: Callable[[list[str], list[str]], Scores]  # (references, hypotheses)


def bertscore(references: list[str], hypotheses: list[str]) -> Scores:
    """The BERTScore of RadCliQ; its idf weights come from these references, so subsets are not comparable."""
    import transformers
    from bert_score import BERTScorer

    base = transformers.PreTrainedTokenizerBase
    if not hasattr(base, "build_inputs_with_special_tokens"):  # gone in transformers 5; asked for by an empty text
        base.build_inputs_with_special_tokens = lambda self, ids: [self.cls_token_id, *ids, self.sep_token_id]
    scorer = BERTScorer("distilroberta-base", num_layers=5, lang="en", rescale_with_baseline=True, idf=True)
    scorer._tokenizer.model_max_length = 512  # without it in the model's files the tokenizer has a limit of 1e30
    scorer.compute_idf(references)
    values = [row.tolist() for row in scorer.score(hypotheses, references)]
    name = f"bertscore[distilroberta-base,layer5,idf,rescaled@{version('bert-score')}]"
    return {f"{name}.{part}": row for part, row in zip(("p", "r", "f1"), values, strict=True)}


def radcliq(references: list[str], hypotheses: list[str]) -> Scores:
    """RadCliQ-v1 per report: lower is better. RadEval itself prints 1 / mean. It rests on BERTScore: see there."""
    import radeval

    sys.modules.setdefault("RadEval", radeval)  # 2.2.1 imports itself by its old name
    found = radeval.RadEval(metrics=["radcliq"], per_sample=True, show_progress=False)(references, hypotheses)
    return {f"radcliq_v1[radeval@{version('radeval')}]": found["radcliq_v1"]}


def green(references: list[str], hypotheses: list[str]) -> Scores:
    import radeval

    found = radeval.RadEval(metrics=["green"], per_sample=True, show_progress=False)(references, hypotheses)
    return {f"green[GREEN-radllama2-7b,radeval@{version('radeval')}]": found["green"]}


def ratescore(references: list[str], hypotheses: list[str]) -> Scores:
    """A pair without entities on one side is .5 in this package."""
    import torch
    from RaTEScore import RaTEScore

    if not all(text.strip() for text in [*references, *hypotheses]):
        raise ValueError("it cannot read an empty report; leave such studies out")
    found = RaTEScore(use_gpu=torch.cuda.is_available()).compute_score(hypotheses, references)
    return {f"ratescore[RaTEScore@{version('RaTEScore')}]": found}


USER_CACHE = os.environ.get("XDG_CACHE_HOME") or "~/.cache"  # where radeval keeps two of its models
DISTILROBERTA = Weights("distilroberta-base")
RADEVAL = ("radeval", "radeval", "'radeval==2.2.1' 'numpy<2' 'pyarrow<26'")
RADCLIQ_WEIGHTS = (
    DISTILROBERTA,
    Weights("bert-base-uncased"),
    Weights("StanfordAIMI/RRG_scorers", "chexbert.pth", f"{USER_CACHE}/chexbert"),
    Weights("StanfordAIMI/RRG_scorers", "radgraph.tar.gz", f"{USER_CACHE}/radgraph/0.1.18"),
)
RATESCORE_WEIGHTS = (Weights("Angelakeke/RaTE-NER-Deberta"), Weights("FremyCompany/BioLORD-2023-C"))
# RaTEScore declares no requirement; medspacy's compiled parts need the older numpy.
RATESCORE = ("RaTEScore", "RaTEScore", "'RaTEScore==0.6.0' torch transformers pandas medspacy 'numpy<2'")
METRICS: dict[str, Metric] = {
    "bertscore": Metric("bert_score", "bert-score", "'bert-score==0.3.13'", (DISTILROBERTA,), bertscore),
    "radcliq": Metric(*RADEVAL, RADCLIQ_WEIGHTS, radcliq),
    "green": Metric(*RADEVAL, (Weights("StanfordAIMI/GREEN-radllama2-7b"),), green),
    "ratescore": Metric(*RATESCORE, RATESCORE_WEIGHTS, ratescore),
}
OFFLINE = "HF_HUB_OFFLINE"  # 1 here unless the caller has set it: a scoring run must not fetch gigabytes unasked


def missing(name: str) -> str:
    """One line on what cannot be had here; "" when package and weights are there."""
    metric = METRICS[name]
    if importlib.util.find_spec(metric.module) is None:
        return (
            f"{name} needs the package {metric.package}, which {sys.executable} lacks; make an environment with"
            f" `pip install {metric.install}` and name its python in S2D_HEAVY_PYTHON"
        )
    wanted = [weights for weights in metric.weights if not weights.are_there()] if os.environ[OFFLINE] == "1" else []
    if wanted:
        return (
            f"{name} needs the weights of {wanted[0].repository}; fetch them with `{wanted[0].how_to_get()}`, or set"
            f" {OFFLINE}=0 and the package downloads what it lacks"
        )
    return ""


def score(name: str, pairs: Sequence[dict[str, str]]) -> list[dict[str, object]]:
    """The lines of the answer."""
    metric = METRICS[name]
    if line := missing(name):
        return [{"missing": line}]
    try:
        scores = metric.compute([pair["ref"] for pair in pairs], [pair["hyp"] for pair in pairs])
        rows = [{key: float(values[at]) for key, values in scores.items()} for at in range(len(pairs))]
    except Exception as error:  # the border to foreign code: whatever breaks behind it is one line here
        why = " ".join(str(error).split())[:300]
        return [{"missing": f"{name} has no numbers: {metric.package} failed with {type(error).__name__}: {why}"}]
    answers: list[dict[str, object]] = [
        {"id": pair["id"], "scores": row} for pair, row in zip(pairs, rows, strict=True)
    ]
    return [{"package": f"{metric.package}@{version(metric.package)}"}, *answers]


def main() -> None:
    """Answer on the real standard output; whatever the packages print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    os.environ.setdefault(OFFLINE, "1")
    os.environ.setdefault("LOGURU_LEVEL", "WARNING")  # RaTEScore's sentence splitter tells of every token
    with open(0, encoding="utf-8") as pairs:
        lines = score(sys.argv[1], [json.loads(line) for line in pairs])
    answers.writelines(json.dumps(line) + "\n" for line in lines)
    answers.close()


if __name__ == "__main__":
    main()
