"""Make a small RadGraph checkpoint out of phantom reports, whose graphs are exact by construction.

The real checkpoint needs a licence and a download. This one has the same folder layout, is trained with the package's
own classes and is loaded by the package itself, so the real one can take its place. It knows phantom text only.

    python -m pipelines.radgraph_stand_in --out DIR
"""

import argparse
import collections
import dataclasses
import itertools
import json
import logging
import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import torch
import transformers
from tqdm import tqdm

from components.key_phrases.documents import Annotated, agreement, annotate_tokens, pack
from components.preprocess.phantom.grammar import write_report
from components.preprocess.phantom.patients import sample_patients
from components.preprocess.phantom.state import GENERATOR, Language
from components.shared.lineage import library_versions, now_utc, sha256_file
from components.shared.radgraph.checkpoints import BERT
from components.shared.radgraph.graph import LONG_LABELS
from components.shared.radgraph.package import MODEL_TYPE, annotate, import_radgraph, load, tokenise
from model.errors import ConfigError, S2DError

logger = logging.getLogger(__name__)

FIRST_SEED = 900  # below it are the patients of data sets, which the stand-in must never have read
HELD_OUT_SEED = 999
HELD_OUT_REPORTS = 300
REPORTS_PER_STEP = 16
LEARNING_RATE = 2e-3
WIDTH = 64
HEADS = 4
LAYERS = 2
MAX_SPAN_WIDTH = 3  # the longest phantom entity ("endotracheal tube tip"); the cost grows with its square
SPANS_PER_WORD = 0.8  # terse phantom reports are nearly all entities; the package's .5 would prune some
LANGUAGES: tuple[Language, ...] = ("usual", "paraphrased")  # of the training reports, by turns
DISGUISED = 0.15
RELATIONS = ("located_at", "modify", "suggestive_of")


def phantom_reports(count: int, seed: int, languages: Sequence[Language] = ("usual",)) -> list[Annotated]:
    """Write `count` phantom reports and carry their exact graphs over to the package's tokenisation.

    languages: whose words, by turns. "held_out" is what the stand-in is measured on and never reads in training.
    """
    if not FIRST_SEED <= seed <= HELD_OUT_SEED:
        raise ConfigError(f"seed is {seed}; use {FIRST_SEED} to {HELD_OUT_SEED}, others make data sets")
    states = [state for studies in sample_patients(count, seed) for state in studies]  # a patient has a study at least
    reports: list[Annotated] = []
    for state, language in zip(states, itertools.cycle(languages), strict=False):
        graph = write_report(dataclasses.replace(state, language=language)).graph
        if tokens := tokenise(graph["text"]):
            reports.append(annotate_tokens(graph, tokens))
        if len(reports) == count:
            break
    return reports


def disguise(report: Annotated, rng: random.Random) -> Annotated:
    """Put invented words in place of some words of entities: the words around them then have to tell what they are."""
    inside = {index for start, end, _ in report.ner for index in range(start, end + 1)}
    tokens = [
        "".join(rng.sample(token, len(token))) if index in inside and rng.random() < DISGUISED else token
        for index, token in enumerate(report.tokens)
    ]
    return dataclasses.replace(report, tokens=tuple(tokens))


def _write_tokenizer(directory: Path, reports: Sequence[Annotated]) -> int:
    """Save a BERT tokenizer of the frequent words, with single characters for all others. Returns its size."""
    counts = collections.Counter(token.lower() for report in reports for token in report.tokens)
    words = sorted(word for word, count in counts.items() if count > 2)
    letters = sorted({letter for word in counts for letter in word} | set("abcdefghijklmnopqrstuvwxyz0123456789"))
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *("##" + letter for letter in letters), *words]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    transformers.BertTokenizer(vocab=vocabulary, do_lower_case=True).save_pretrained(directory)
    return len(vocabulary)


def _write_configuration(out: Path, reports: Sequence[Annotated]) -> None:
    """Write everything of the checkpoint folder that is known before training."""
    pieces = _write_tokenizer(out / BERT, reports)
    transformers.BertConfig(
        vocab_size=pieces,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=2 * WIDTH,
        max_position_embeddings=512,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        architectures=["BertModel"],
    ).save_pretrained(out / BERT)

    vocabulary = out / "vocabulary"
    vocabulary.mkdir(parents=True, exist_ok=True)
    (vocabulary / "non_padded_namespaces.txt").write_text("*labels\n*tags\n")
    # The empty first line is the label of a span that is no entity.
    (vocabulary / f"{MODEL_TYPE}__ner_labels.txt").write_text("\n".join(["", *LONG_LABELS.values()]) + "\n")
    (vocabulary / f"{MODEL_TYPE}__relation_labels.txt").write_text("\n".join(RELATIONS) + "\n")
    (out / "config.json").write_text(json.dumps(_config(), indent=2) + "\n")


def _config() -> dict[str, Any]:
    """The package's configuration. The encoder's folder is relative; the loader makes it absolute."""
    encoder = {"max_length": 512, "model_name": BERT}
    return {
        "dataset_reader": {
            "type": "dygie",
            "max_span_width": MAX_SPAN_WIDTH,
            "token_indexers": {"bert": {"type": "pretrained_transformer_mismatched", **encoder}},
        },
        "model": {
            "type": "dygie",
            "embedder": {"token_embedders": {"bert": {"type": "pretrained_transformer_mismatched", **encoder}}},
            "feature_size": 8,
            "feedforward_params": {"dropout": 0.0, "hidden_dims": 96, "num_layers": 2},
            "initializer": {},
            "module_initializer": {},
            "loss_weights": {"coref": 0, "events": 0, "ner": 1.0, "relation": 1.0},
            "max_span_width": MAX_SPAN_WIDTH,
            "target_task": "relation",
            "modules": {
                "coref": {"coref_prop": 0, "max_antecedents": 100, "spans_per_word": 0.3},
                "events": {
                    "loss_weights": {"arguments": 1, "trigger": 1},
                    "trigger_spans_per_word": 0.3,
                    "argument_spans_per_word": 0.8,
                },
                "ner": {},
                "relation": {"spans_per_word": SPANS_PER_WORD},
            },
        },
    }


def _save_weights(model: torch.nn.Module, out: Path) -> None:
    torch.save(model.state_dict(), out / "weights.th")


def save_untrained(out: Path) -> None:
    """Save random weights in the shape that the package will build from the folder, so that it can load them."""
    package = import_radgraph("radgraph.radgraph")
    config = json.loads((out / "config.json").read_text())["model"]
    embedder = package.token_embedders.PretrainedTransformerMismatchedEmbedder(
        model_name=str((out / BERT).resolve()), max_length=512
    )
    for name in ("type", "embedder", "initializer", "module_initializer"):
        del config[name]
    model = package.dygie.DyGIE(
        vocab=package.Vocabulary.from_files(str(out / "vocabulary")),
        embedder=package.text_field_embedders.BasicTextFieldEmbedder({"bert": embedder}),
        **config,
    )
    (out / "vocabulary" / ".lock").unlink(missing_ok=True)  # left behind by the package
    _save_weights(model, out)


def _steps(radgraph: Any, reports: Sequence[Annotated], *, progress: bool) -> list[Any]:
    """Index all reports once. Reports of similar length share a step, so little of it is padding."""
    package = import_radgraph("radgraph.radgraph")
    ordered = sorted(reports, key=lambda report: len(report.tokens))
    packs = [ordered[at : at + REPORTS_PER_STEP] for at in range(0, len(ordered), REPORTS_PER_STEP)]
    documents = [pack(reports, str(key)) for key, reports in enumerate(packs)]
    bar = tqdm(documents, desc="index reports", unit="batch", disable=not progress)
    data = package.AllennlpDataset([radgraph.reader.text_to_instance(document) for document in bar])
    data.index_with(radgraph.model.vocab)
    return list(package.PyTorchDataLoader(batch_size=1, dataset=data))


def _train(radgraph: Any, reports: Sequence[Annotated], *, epochs: int, seed: int, progress: bool) -> None:
    """Train in place with one warm-up and a linear decay; a constant rate becomes unstable after a few epochs."""
    steps, shuffler, model = _steps(radgraph, reports, progress=progress), random.Random(seed), radgraph.model
    optimiser = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    total = epochs * len(steps)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / (0.05 * total + 1), (total - step) / total)
    )
    model.train()
    with tqdm(total=total, desc="train stand-in", unit="step", disable=not progress) as bar:
        for epoch in range(epochs):
            shuffler.shuffle(steps)
            losses = 0.0
            for step in steps:
                loss = model(**step)["loss"] / len(step["metadata"][0])  # the package sums over the reports
                optimiser.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimiser.step()
                schedule.step()
                losses += loss.item()
                bar.update()
            bar.set_postfix(epoch=epoch + 1, loss=f"{losses / len(steps):.3f}")
    model.eval()


def measure(radgraph: Any, reports: Sequence[Annotated]) -> dict[str, float]:
    """Agreement of the loaded package with exact graphs, text in and graph out."""
    answers = annotate(radgraph, [" ".join(report.tokens) for report in reports])
    found = [annotate_tokens(answers[str(i)], report.tokens) for i, report in enumerate(reports)]
    return agreement(reports, found)


def _write_manifest(out: Path, made_with: dict[str, Any], measured: dict[str, dict[str, float]]) -> None:
    """Write what was made of what, last, with a digest of every file."""
    files = sorted(path for path in out.rglob("*") if path.is_file() and path.name != "manifest.json")
    manifest = {
        "kind": "radgraph_checkpoint",
        "model_type": MODEL_TYPE,
        "stand_in": True,
        "trained_on": f"{GENERATOR} reports with exact graphs; knows phantom text only",
        "synthetic": True,
        **made_with,
        "held_out": {"seed": HELD_OUT_SEED, "reports": HELD_OUT_REPORTS, "languages": measured},
        "created_at": now_utc().isoformat(),
        "libraries": library_versions(),
        "files": {str(path.relative_to(out)): sha256_file(path) for path in files},
    }
    (out / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")


def make(
    out: Path, reports: int = 3000, epochs: int = 8, seed: int = FIRST_SEED, *, progress: bool = True
) -> dict[str, dict[str, float]]:
    """Train a checkpoint into a new or empty folder. Returns F1 of entities and relations by language."""
    if seed == HELD_OUT_SEED:
        raise ConfigError(f"seed {seed} makes the held-out reports; train with another")
    if reports < 1 or epochs < 1:
        raise ConfigError(f"{reports} reports in {epochs} epochs train nothing; use at least 1 of both")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ConfigError(f"{out} is not an empty folder; name a new one for the checkpoint")
    torch.manual_seed(seed)
    plain, rng = phantom_reports(reports, seed, LANGUAGES), random.Random(seed)
    training = [*plain, *(disguise(report, rng) for report in plain)]
    out.mkdir(parents=True, exist_ok=True)
    _write_configuration(out, plain)
    save_untrained(out)
    radgraph = load(out)
    _train(radgraph, training, epochs=epochs, seed=seed, progress=progress)
    _save_weights(radgraph.model, out)

    loaded = load(out)
    measured = {language: _rounded(measure(loaded, held_out(language))) for language in get_args(Language)}
    about = {"seed": seed, "reports": reports, "epochs": epochs, "languages": LANGUAGES, "disguised": DISGUISED}
    _write_manifest(out, about, measured)
    logger.info("radgraph stand-in at=%s %s", out, measured)
    return measured


def held_out(language: Language) -> list[Annotated]:
    """Reports of patients that no training report is of; "held_out" ones are of words that none has either."""
    return phantom_reports(HELD_OUT_REPORTS, HELD_OUT_SEED, (language,))


def _rounded(scores: Mapping[str, float]) -> dict[str, float]:
    return {key: round(value, 4) for key, value in scores.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Train a small RadGraph checkpoint on phantom reports.")
    parser.add_argument("--out", type=Path, required=True, help="new folder for the checkpoint")
    parser.add_argument("--reports", type=int, default=3000)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=FIRST_SEED)
    options = parser.parse_args(arguments)
    try:
        measured = make(options.out, options.reports, options.epochs, options.seed)
    except S2DError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(measured))
    return 0


if __name__ == "__main__":
    sys.exit(main())
