"""The process of the heavy metrics: real subprocesses, with a double of the foreign packages where none is installed.

With TEST_HEAVY_PYTHON set to the Python of an environment that has bert-score, that package itself runs on a small
model: `TEST_HEAVY_PYTHON=... pytest tests/contract/test_heavy_metrics.py`.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from components.evaluate.heavy import PYTHON_VARIABLE, Pair, heavy_metrics
from components.evaluate.heavy_worker import METRICS
from model.errors import ConfigError

pytestmark = pytest.mark.contract

REAL = os.environ.get("TEST_HEAVY_PYTHON", "")
PAIRS = [
    Pair("s1", "a", "no effusion\nKühlschrank \u2028 .", "small left effusion ."),
    Pair("s2", "a", "", "the lungs are clear ."),
    Pair("s3", "b", "the lungs are clear .", "the lungs are clear ."),
]
BERT_SCORE = """
import sys
import statistics  # of the standard library, not the file of that name beside the worker
assert "python3" in statistics.__file__, statistics.__file__
print("a package that writes to standard output")
class Row(list):
    tolist = lambda self: list(self)
class BERTScorer:
    def __init__(self, model, **settings):
        assert (model, settings["idf"], settings["num_layers"]) == ("distilroberta-base", True, 5)
        self._tokenizer = type("Tokenizer", (), {{}})()
    def compute_idf(self, texts):
        print("idf of", len(texts), "references")
    def score(self, candidates, references):
        words = [len(text) for text in candidates], [len(text) for text in references]
        {behaviour}
        return Row(words[0]), Row(words[1]), Row([float(c == r) for c, r in zip(candidates, references)])
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment of its own, in which doubles stand for what a real one would hold."""
    folder = tmp_path_factory.mktemp("heavy") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=60)
    return folder


@pytest.fixture
def packages(environment: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The packages of that environment, with a bert_score that answers and a hub's cache that has its weights."""
    monkeypatch.setenv(PYTHON_VARIABLE, str(environment / "bin" / "python"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    place = next(environment.glob("lib/python3*/site-packages"))
    (place / "bert_score-0.3.13.dist-info").mkdir(exist_ok=True)
    (place / "bert_score-0.3.13.dist-info" / "METADATA").write_text("Name: bert-score\nVersion: 0.3.13\n")
    (place / "bert_score.py").write_text(BERT_SCORE.format(behaviour="pass"))
    (place / "transformers.py").write_text("class PreTrainedTokenizerBase: pass\n")
    (place / "huggingface_hub.py").write_text("def try_to_load_from_cache(*a, **k): return '/there'\n")
    return place


def test_every_study_gets_the_scores_of_the_package(packages: Path) -> None:
    found = heavy_metrics(["bertscore"], PAIRS)["bertscore"]
    name = "bertscore[distilroberta-base,layer5,idf,rescaled@0.3.13]"
    assert found["package"] == "bert-score@0.3.13"
    assert found["scores"] == {
        pair.id: {f"{name}.p": len(pair.hyp), f"{name}.r": len(pair.ref), f"{name}.f1": float(pair.hyp == pair.ref)}
        for pair in PAIRS
    }


@pytest.mark.parametrize(
    ("behaviour", "line"),
    [
        ("raise ValueError('two\\nlines')", "bertscore has no numbers: bert-score failed with ValueError: two lines"),
        ("words[0][1] = float('nan')", "bert-score@0.3.13 answered nan (Input should be a finite number)"),
        ("words = [1], [1]", "bert-score failed with IndexError"),
        ("import os; os._exit(9)", "bertscore has no numbers: its process ended with status 9"),
    ],
)
def test_a_package_that_breaks_gives_a_line_and_no_number(packages: Path, behaviour: str, line: str) -> None:
    (packages / "bert_score.py").write_text(BERT_SCORE.format(behaviour=behaviour))
    found = heavy_metrics(["bertscore"], PAIRS)["bertscore"]
    assert list(found) == ["missing"]
    assert line in found["missing"] and "\n" not in found["missing"]


def test_absent_weights_are_named_with_the_command_that_fetches_them(packages: Path) -> None:
    (packages / "huggingface_hub.py").write_text("def try_to_load_from_cache(*a, **k): return None\n")
    assert heavy_metrics(["bertscore"], PAIRS)["bertscore"]["missing"].startswith(
        "bertscore needs the weights of distilroberta-base; fetch them with `hf download distilroberta-base`"
    )


def test_an_absent_package_is_named_with_what_to_install(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = environment / "bin" / "python"
    monkeypatch.setenv(PYTHON_VARIABLE, str(python))
    names = ["radcliq", "green", "ratescore"]
    for name, found in heavy_metrics(names, PAIRS).items():
        metric = METRICS[name]
        assert found["missing"] == (
            f"{name} needs the package {metric.package}, which {python} lacks; make an environment with"
            f" `pip install {metric.install}` and name its python in S2D_HEAVY_PYTHON"
        )


def test_the_interpreter_may_be_named_from_here(
    packages: Path, environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process has a working directory of its own."""
    monkeypatch.chdir(environment)
    monkeypatch.setenv(PYTHON_VARIABLE, "bin/python")
    assert "scores" in heavy_metrics(["bertscore"], PAIRS)["bertscore"]


@pytest.mark.parametrize(
    ("program", "line"),
    [
        ("#!/bin/sh\necho no Python", "bertscore has no numbers: its process answered 'no Python'"),
        ("#!/bin/sh\necho 7", "bertscore has no numbers: its process answered 7 ("),
        ("junk", "bertscore has no numbers: {path} cannot be run (Exec format error)"),
    ],
)
def test_a_program_that_is_no_python_gives_a_line(
    program: str, line: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "python"
    path.write_text(program + "\n")
    path.chmod(0o755)
    monkeypatch.setenv(PYTHON_VARIABLE, str(path))
    assert heavy_metrics(["bertscore"], PAIRS)["bertscore"]["missing"].startswith(line.format(path=path))


def test_names_that_do_not_exist_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown heavy metric 'blurt'; known are bertscore, radcliq"):
        heavy_metrics(["bertscore", "blurt"], PAIRS)
    monkeypatch.setenv(PYTHON_VARIABLE, str(tmp_path / "python"))
    with pytest.raises(ConfigError, match=r"S2D_HEAVY_PYTHON is .*, where no Python is"):
        heavy_metrics(["bertscore"], PAIRS)


@pytest.mark.skipif(not REAL, reason="TEST_HEAVY_PYTHON names no environment with bert-score")
def test_the_real_package_on_a_small_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights, so only what holds for any weights: the same text scores 1, another one less."""
    write_small_roberta(tmp_path / "hub" / "models--distilroberta-base")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv(PYTHON_VARIABLE, REAL)
    found = heavy_metrics(["bertscore"], PAIRS)["bertscore"]
    scores = {
        study: values[next(key for key in values if key.endswith(".f1"))] for study, values in found["scores"].items()
    }
    assert scores["s3"] == pytest.approx(1, abs=1e-4)
    assert scores["s2"] < scores["s1"] < 0.9


def write_small_roberta(repository: Path) -> None:
    """A model of six layers, as distilroberta-base has, where the hub's cache keeps that repository."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import RobertaConfig, RobertaModel

    snapshot = repository / "snapshots" / "small"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("small")
    tokenizer = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer.train_from_iterator([pair.ref for pair in PAIRS], vocab_size=300, special_tokens=special)
    tokenizer.save_model(str(snapshot))
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 6, "num_attention_heads": 2, "intermediate_size": 32}
    config = RobertaConfig(vocab_size=300, max_position_embeddings=514, pad_token_id=1, initializer_range=0.5, **sizes)
    RobertaModel(config).save_pretrained(snapshot)
