"""Noise in key phrases: which, how often, the same again, and training studies only."""

import pytest

from components.key_phrases.noise import read_noise, with_noise
from model.config import PhraseNoise
from model.errors import ConfigError
from model.records import KeyPhrase, Study

PHRASES = (
    KeyPhrase(text="small left pleural effusion", polarity="present", entities=("1",)),
    KeyPhrase(text="possible edema", polarity="uncertain", entities=("2",)),
    KeyPhrase(text="no pneumothorax", polarity="absent", entities=("3",)),
)


def studies(count: int = 1, split: str = "train") -> list[Study]:
    return [Study.model_construct(study_id=f"s{i}", split=split, key_phrases=PHRASES) for i in range(count)]


def said(study: Study) -> list[tuple[str, str]]:
    return [(phrase.text, phrase.polarity) for phrase in study.key_phrases]


@pytest.mark.parametrize(
    "noise, expected",
    [
        (PhraseNoise(drop=1), []),
        (
            PhraseNoise(polarity_flip=1),
            [("no small left pleural effusion", "absent"), ("no edema", "absent"), ("pneumothorax", "present")],
        ),
        (
            PhraseNoise(side_swap=1),
            [
                ("small right pleural effusion", "present"),
                ("possible edema", "uncertain"),
                ("no pneumothorax", "absent"),
            ],
        ),
    ],
)
def test_each_kind_of_noise(noise: PhraseNoise, expected: list[tuple[str, str]]) -> None:
    (noisy,), about = with_noise(studies(), noise, seed=0)
    assert said(noisy) == expected
    assert [phrase.entities for phrase in noisy.key_phrases] == [p.entities for p in PHRASES][: len(expected)]
    assert about["dropped"] == 3 - len(expected)
    assert about["changed"] == sum(new != (old.text, old.polarity) for new, old in zip(expected, PHRASES, strict=False))


def test_a_probability_is_a_share_and_the_same_seed_gives_the_same() -> None:
    noise = PhraseNoise(drop=0.2)
    first, about = with_noise(studies(400), noise, seed=3)
    assert 0.15 < about["dropped"] / 1200 < 0.25
    assert with_noise(studies(400), noise, seed=3) == (first, about)
    assert with_noise(studies(400), noise, seed=4)[0] != first
    alone, _ = with_noise(studies(400)[7:8], noise, seed=3)  # drawn by study, not by what stands before it
    assert said(alone[0]) == said(first[7])


def test_only_training_studies_are_spoilt() -> None:
    (kept,), about = with_noise(studies(split="validate"), PhraseNoise(drop=1), seed=0)
    assert kept.key_phrases == PHRASES and about["dropped"] == 0


def test_without_noise_nothing_is_said_of_it() -> None:
    assert with_noise(studies(2), PhraseNoise(), seed=0) == (studies(2), {})


def test_options_are_read() -> None:
    assert read_noise(["drop=0.1", "side_swap=0.25"]) == PhraseNoise(drop=0.1, side_swap=0.25)
    assert read_noise([]) == PhraseNoise()


@pytest.mark.parametrize("options", [["drop=0.1", "drop=0.2"], ["drop=0.1", "side_swap=0.1", "drop=0.1"]])
def test_noise_that_is_given_twice_is_one_line(options: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"drop=0\.1 .*names one kind twice; give each kind once"):
        read_noise(options)


@pytest.mark.parametrize("option", ["drop=1.5", "drop", "side=0.1", "drop=often"])
def test_unreadable_noise_is_one_line(option: str) -> None:
    with pytest.raises(ConfigError, match="write KIND=PROBABILITY from 0 to 1") as caught:
        read_noise([option])
    assert "\n" not in str(caught.value)
