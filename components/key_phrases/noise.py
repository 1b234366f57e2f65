"""Extraction errors on purpose: key phrases dropped, denied, or moved to the other side, for the robustness experiment.

The functions are those of training (`model.draws`), which spoils phrases anew in every epoch. Here a phrase is spoilt
once, before a language model words it, and the data set says so.
"""

import random
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from model.config import PhraseNoise
from model.draws import NEGATION, spoil
from model.errors import ConfigError
from model.records import KeyPhrase, Study


def read_noise(options: Sequence[str]) -> PhraseNoise:
    """Read `KIND=PROBABILITY` pairs. Raises ConfigError."""
    pairs = dict(option.partition("=")[::2] for option in options)
    if len(pairs) < len(options):
        raise ConfigError(f"noise {' '.join(options)} names one kind twice; give each kind once")
    try:
        return PhraseNoise.model_validate(pairs)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(
            f"noise {first['loc'][0]}={first['input']!r}: {first['msg'].lower()}; write KIND=PROBABILITY from 0 to 1,"
            f" KIND one of {', '.join(PhraseNoise.model_fields)}"
        ) from error


def with_noise(studies: Sequence[Study], noise: PhraseNoise, seed: int) -> tuple[list[Study], dict[str, Any]]:
    """Spoil the phrases of the training studies, and say how many. Others are what a model is measured on."""
    if noise == PhraseNoise():
        return list(studies), {}
    noisy, dropped, changed = [], 0, 0
    for study in studies:
        if study.split == "train":
            rng = random.Random(f"{seed}-noise-{study.study_id}")
            spoilt = [_spoilt(phrase, noise, rng) for phrase in study.key_phrases]
            dropped += spoilt.count(None)
            changed += sum(new not in (None, old) for new, old in zip(spoilt, study.key_phrases, strict=True))
            study = study.model_copy(update={"key_phrases": tuple(phrase for phrase in spoilt if phrase)})
        noisy.append(study)
    return noisy, {**noise.model_dump(), "seed": seed, "split": "train", "dropped": dropped, "changed": changed}


def _spoilt(phrase: KeyPhrase, noise: PhraseNoise, rng: random.Random) -> KeyPhrase | None:
    text = spoil(phrase.text, noise, rng)
    if not text:
        return None
    was_denied, is_denied = (bool(NEGATION.match(each)) for each in (phrase.text, text))
    polarity = phrase.polarity if was_denied == is_denied else "absent" if is_denied else "present"
    return phrase.model_copy(update={"text": text, "polarity": polarity})
