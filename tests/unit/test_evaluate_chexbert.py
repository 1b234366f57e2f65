"""CheXbert's loader on a small checkpoint of the published layout; its weights are random, so labels mean nothing."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import BertConfig, BertModel, BertTokenizer

from components.evaluate.chexbert import HEADS, CheXbertLabeler
from components.evaluate.labels import chexbert_labels
from model.errors import ConfigError, DataError
from model.records import OBSERVATIONS

TEXT = "the heart is normal enlarged no pleural effusion left right small large lung clear . , ##ly mild new"
WORDS = TEXT.split()
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
REPORTS = [
    "The heart is normal.",
    "small left pleural effusion, new",
    "",
    "no pleural effusion . the lung is clear . heart normal , mildly enlarged",
    "lung",
    "the lung is clear. " * 40,
    "right right right large",
]
PUBLISHED = {None: 0, 1: 1, 0: 2, -1: 3}  # the class of every label, as data-formats and the paper have it


def write_bert(folder: Path) -> BertConfig:
    folder.mkdir(parents=True)
    vocabulary = [*SPECIAL, *WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = BertConfig(vocab_size=len(vocabulary), initializer_range=0.5, **sizes)
    config.save_pretrained(folder)
    return config


def published_state(config: BertConfig) -> dict[str, Tensor]:
    """Random weights under the names of the published file."""
    generator = torch.Generator().manual_seed(5)
    state = {f"module.bert.{name}": value for name, value in BertModel(config).state_dict().items()}
    for head, name in enumerate(HEADS):
        classes = 2 if name == "No Finding" else 4
        state[f"module.linear_heads.{head}.weight"] = torch.randn(classes, 32, generator=generator)
        state[f"module.linear_heads.{head}.bias"] = torch.randn(classes, generator=generator)
    return state


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    torch.manual_seed(3)
    return published_state(write_bert(tmp_path_factory.mktemp("bert") / "x"))


@pytest.fixture
def checkpoint(tmp_path: Path, state: dict[str, Tensor]) -> Path:
    write_bert(tmp_path / "bert-base-uncased")
    torch.save({"epoch": 1, "model_state_dict": state}, tmp_path / "chexbert.pth")
    return tmp_path / "chexbert.pth"


def independent_logits(folder: Path, state: dict[str, Tensor], text: str) -> list[Tensor]:
    """The published forward, written out with transformers' own classes: one report, no padding."""
    bert = BertModel(BertConfig.from_pretrained(folder / "bert-base-uncased")).eval()
    bert.load_state_dict({k.removeprefix("module.bert."): v for k, v in state.items() if ".bert." in k})
    tokenizer = BertTokenizer.from_pretrained(folder / "bert-base-uncased")
    pieces = tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text))
    ids = [tokenizer.cls_token_id, *pieces, tokenizer.sep_token_id]
    if len(ids) > 512:
        ids = [*ids[:511], tokenizer.sep_token_id]
    with torch.no_grad():
        first = bert(torch.tensor([ids])).last_hidden_state[0, 0]
    return [
        state[f"module.linear_heads.{i}.weight"] @ first + state[f"module.linear_heads.{i}.bias"] for i in range(14)
    ]


def test_logits_and_labels_are_those_of_an_independent_forward(checkpoint: Path, state: dict[str, Tensor]) -> None:
    labeler = CheXbertLabeler(checkpoint)
    seen = set()
    for text, labels in zip(REPORTS, labeler.label(REPORTS), strict=True):
        expected = independent_logits(checkpoint.parent, state, text)
        ids = torch.tensor([labeler.tokenizer(text)["input_ids"]])
        with torch.no_grad():
            found = labeler.model(ids, torch.ones_like(ids))
        assert [row.shape for row in found] == [(1, 4)] * 13 + [(1, 2)]
        torch.testing.assert_close(torch.cat([row[0] for row in found]), torch.cat(expected), atol=1e-5, rtol=1e-5)
        classes = {name: int(logits.argmax()) for name, logits in zip(HEADS, expected, strict=True)}
        assert {name: PUBLISHED[value] for name, value in labels.items()} == classes
        assert tuple(labels) == OBSERVATIONS
        seen |= set(labels.values())
    assert seen == {None, 1, 0, -1}


def test_a_batch_gives_the_labels_of_one_by_one_in_their_order(checkpoint: Path) -> None:
    labeler = CheXbertLabeler(checkpoint)
    texts = [f"{REPORTS[i % 7]} {' '.join(WORDS[: i % 11])}" for i in range(80)]
    assert labeler.label(texts) == [labeler.label([text])[0] for text in texts]
    assert len({tuple(labels.values()) for labels in labeler.label(texts)}) > 10


def test_every_head_has_its_own_name(checkpoint: Path, state: dict[str, Tensor]) -> None:
    for head, name in enumerate(HEADS):
        flat = {k: torch.zeros_like(v) if "linear_heads" in k else v for k, v in state.items()}
        flat[f"module.linear_heads.{head}.bias"][1] = 1.0
        torch.save({"model_state_dict": flat}, checkpoint)
        assert CheXbertLabeler(checkpoint).label(["heart"]) == [dict.fromkeys(OBSERVATIONS) | {name: 1}]


def test_texts_are_prepared_as_in_the_original(
    checkpoint: Path, state: dict[str, Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    labeler = CheXbertLabeler(checkpoint)
    assert labeler.label(["  The heart\n\n is\tnormal. "]) == labeler.label(["The heart is normal."])
    long = "lung clear . " * 2000 + "small left pleural effusion"
    expected = [int(row.argmax()) for row in independent_logits(checkpoint.parent, state, long)]
    labels = labeler.label([long])[0]
    assert [PUBLISHED[labels[name]] for name in HEADS] == expected
    assert "cuts 1 of 1 reports to 512 word pieces" in caplog.text


def test_both_sides_are_labeled_and_the_name_holds_the_digest(checkpoint: Path) -> None:
    labeling = chexbert_labels(checkpoint.parent, REPORTS[:3], REPORTS[3:6])  # a folder stands for its chexbert.pth
    labeler = CheXbertLabeler(checkpoint)
    assert labeling.family == "chexbert"
    assert labeling.name == labeler.name and len(labeling.name) == len("chexbert@") + 8
    assert (labeling.truth, labeling.guess) == (labeler.label(REPORTS[:3]), labeler.label(REPORTS[3:6]))


@pytest.mark.parametrize("change", ["no prefix", "position_ids"])
def test_layouts_that_differ_in_name_only_are_read(checkpoint: Path, state: dict[str, Tensor], change: str) -> None:
    expected = CheXbertLabeler(checkpoint).label(REPORTS)
    if change == "no prefix":
        other = {name.removeprefix("module."): value for name, value in state.items()}
    else:
        other = state | {"module.bert.embeddings.position_ids": torch.arange(512)[None]}
    torch.save({"model_state_dict": other}, checkpoint)
    assert CheXbertLabeler(checkpoint).label(REPORTS) == expected


def without(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if key != name}


OTHER_LAYOUTS: list[tuple[str, Any, str]] = [
    ("another envelope", lambda s: {"state_dict": s}, r"model_state_dict is missing \(it holds state_dict\)"),
    ("a tensor", lambda s: torch.zeros(3), r"model_state_dict is missing \(it holds Tensor\)"),
    (
        "13 heads",
        lambda s: {"model_state_dict": without(s, "module.linear_heads.13.weight")},
        r"linear_heads\.13\.weight is missing",
    ),
    (
        "another order of heads",
        lambda s: {"model_state_dict": s | {"module.linear_heads.0.weight": s["module.linear_heads.13.weight"]}},
        r"linear_heads\.0\.weight is 2 x 32, expected 4 x 32",
    ),
    (
        "a layer more",
        lambda s: {"model_state_dict": s | {"module.linear_heads.14.weight": torch.zeros(2, 32)}},
        r"linear_heads\.14\.weight is unknown",
    ),
]


@pytest.mark.parametrize(("saved", "message"), [case[1:] for case in OTHER_LAYOUTS], ids=[c[0] for c in OTHER_LAYOUTS])
def test_another_layout_is_refused_in_one_line(
    checkpoint: Path, state: dict[str, Tensor], saved: Any, message: str
) -> None:
    torch.save(saved(state), checkpoint)
    with pytest.raises(DataError, match=message) as refusal:
        CheXbertLabeler(checkpoint)
    assert "\n" not in str(refusal.value) and str(checkpoint) in str(refusal.value)


@pytest.mark.parametrize("content", [b"", b"<html>licence</html>", b"half"])
def test_a_file_that_is_no_checkpoint_is_refused_in_one_line(checkpoint: Path, content: bytes) -> None:
    checkpoint.write_bytes(checkpoint.read_bytes()[:5000] if content == b"half" else content)
    with pytest.raises(DataError, match="not a PyTorch checkpoint") as refusal:
        CheXbertLabeler(checkpoint)
    assert "\n" not in str(refusal.value)


def test_what_is_missing_is_said_with_where_to_put_it(checkpoint: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"no CheXbert checkpoint .*nowhere\.pth; fetch chexbert\.pth of StanfordAIMI"
    ):
        CheXbertLabeler(checkpoint.parent / "nowhere.pth")
    vocabulary = checkpoint.parent / "bert-base-uncased" / "vocab.txt"
    vocabulary.write_text("\n".join(vocabulary.read_text().splitlines()[:-2]) + "\n")
    with pytest.raises(ConfigError, match=r"has 22 word pieces, its config\.json says 24"):
        CheXbertLabeler(checkpoint)
    (checkpoint.parent / "bert-base-uncased").rename(checkpoint.parent / "elsewhere")
    with pytest.raises(
        ConfigError, match=r"`hf download bert-base-uncased`, or put its config\.json, vocab\.txt"
    ) as no:
        CheXbertLabeler(checkpoint)
    assert "\n" not in str(no.value)
