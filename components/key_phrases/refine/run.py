"""One refinement run: ask for what the cache does not hold, guard every phrase, count."""

import logging
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from components.key_phrases.refine.cache import Cache, key_of
from components.key_phrases.refine.endpoint import Endpoint
from components.key_phrases.refine.finding import finding_of
from components.key_phrases.refine.guard import GUARD, refusal, tidy
from components.key_phrases.refine.pool import Pool, read_pool
from components.key_phrases.refine.prompt import PROMPT_SHA256, answer_tokens, messages_of, phrases_in
from components.key_phrases.refine.questions import Model, Question
from components.key_phrases.refine.settings import RefineSettings
from model.records import KeyPhrase

logger = logging.getLogger(__name__)

SAMPLE = 100
# Reasons that concern a study's whole answer; guard.py has those that concern one phrase.
REFUSED_QUESTION, NOT_JSON, WRONG_COUNT = "question_refused", "reply_not_json", "reply_wrong_count"


@dataclass(frozen=True)
class Refined:
    """The phrases of every study, as many and in the order as they were, and what the manifest says of them.

    `report` is plain JSON: model, pool and its hash, prompt hash, seed, shares accepted and refused by reason. It does
    not say what came from the cache: the same run again gives the same report.
    `sample` is for a person to read: up to 100 phrases with what the model wrote and what became of it.
    """

    phrases: dict[str, tuple[KeyPhrase, ...]]
    report: dict[str, Any]
    sample: tuple[dict[str, str], ...]


@dataclass(frozen=True)
class _Judged:
    before: KeyPhrase
    written: str
    reason: str | None

    @property
    def after(self) -> KeyPhrase:
        return self.before if self.reason else self.before.model_copy(update={"text": self.written})


def not_refined() -> dict[str, Any]:
    """What the manifest says when no language model was asked."""
    return {"refined": False, "phrases": "rule-composed; no language model was asked"}


def refine(studies: Mapping[str, Sequence[KeyPhrase]], settings: RefineSettings) -> Refined:
    """Refine the phrases of every study (by study id); a phrase that the guard refuses keeps its rule-composed text.

    Polarity and entity ids stay as they are. Works on phrases as composed, also after noise was injected into them.
    Raises ConfigError (pool, model folder, key, model name) and PlatformError when the endpoint does not answer at all
    or stays away midway; what was answered until then is in the cache.
    """
    pool = read_pool(settings.pool)
    model = _model(settings)
    asked = {study_id: phrases for study_id, phrases in studies.items() if phrases}
    questions = [_question(study_id, phrases, pool, settings) for study_id, phrases in asked.items()]
    with closing(Cache(settings.cache)) as cache:
        replies = _replies(questions, model, pool, cache, settings.address)
    judged = {
        study_id: _judge(phrases, reply) for (study_id, phrases), reply in zip(asked.items(), replies, strict=True)
    }
    report = _report(judged, model, pool, settings)
    logger.info("refine studies=%d phrases=%d refused=%s", len(asked), report["phrases"], report["refused_by_reason"])
    return Refined(
        phrases={study_id: tuple(each.after for each in judged.get(study_id, ())) for study_id in studies},
        report=report,
        sample=_sample(judged, settings.seed),
    )


def _model(settings: RefineSettings) -> Model:
    if settings.model_path is None:
        return Endpoint(settings)
    from components.key_phrases.refine.local import LocalModel  # torch is loaded only for a model of our own

    return LocalModel(settings.model_path, settings.batch_size)


def _question(study_id: str, phrases: Sequence[KeyPhrase], pool: Pool, settings: RefineSettings) -> Question:
    findings = [finding_of(phrase) for phrase in phrases]
    examples = pool.sample(settings.examples, settings.seed, study_id)
    return Question(messages_of(findings, examples), answer_tokens(findings))


def _replies(
    questions: Sequence[Question], model: Model, pool: Pool, cache: Cache, address: str | None
) -> list[str | None]:
    """One answer per question, from the cache or the model. A refused question has none, and is not cached."""
    whom = {"model": model.identity, "endpoint": address, "pool": pool.sha256}
    keys = [key_of({**whom, "messages": q.messages, "max_tokens": q.max_tokens}) for q in questions]
    missing = [index for index, key in enumerate(keys) if cache.get(key) is None]
    missing = list({keys[index]: index for index in missing}.values())  # equal questions are asked once
    logger.info("refine model=%s questions=%d to_ask=%d", model.identity, len(questions), len(missing))
    for at, reply in _with_bar(model.answers([questions[index] for index in missing]), len(missing)):
        if reply is not None:
            cache.put(keys[missing[at]], reply)
    return [cache.get(key) for key in keys]


def _with_bar(answers: Iterator[tuple[int, str | None]], count: int) -> Iterator[tuple[int, str | None]]:
    yield from tqdm(answers, desc="refine", total=count, unit="study", disable=not count)


def _judge(phrases: Sequence[KeyPhrase], reply: str | None) -> list[_Judged]:
    """Each phrase beside what the model wrote for it. An answer that cannot be assigned to them counts for none."""
    written = None if reply is None else phrases_in(reply)
    if written is None or len(written) != len(phrases):
        whole = REFUSED_QUESTION if reply is None else NOT_JSON if written is None else WRONG_COUNT
        return [_Judged(phrase, "", whole) for phrase in phrases]
    return [
        _Judged(phrase, tidy(text), refusal(phrase.text, phrase.polarity, tidy(text)))
        for phrase, text in zip(phrases, written, strict=True)
    ]


def _report(
    judged: Mapping[str, Sequence[_Judged]], model: Model, pool: Pool, settings: RefineSettings
) -> dict[str, Any]:
    every = [each for study in judged.values() for each in study]
    reasons = Counter(each.reason for each in every if each.reason)
    whole = [s for s in judged.values() if s[0].reason in (REFUSED_QUESTION, NOT_JSON, WRONG_COUNT)]
    return {
        "refined": True,
        "model": model.identity,
        "endpoint": settings.address,
        "through": "endpoint" if settings.model_path is None else "local",
        "decoding": "greedy",
        "pool": pool.name,
        "pool_sha256": pool.sha256,
        "pool_entries": len(pool.examples),
        "pool_annotators": pool.annotators,
        "examples": settings.examples,
        "seed": settings.seed,
        "prompt_sha256": PROMPT_SHA256,
        "guard": GUARD,
        "studies": len(judged),
        "studies_fallen_back": len(whole),
        "phrases": len(every),
        "reworded": sum(each.reason is None and each.written != each.before.text for each in every),
        "left_as_composed": sum(each.reason is None and each.written == each.before.text for each in every),
        "refused": reasons.total(),
        "refused_share": round(reasons.total() / len(every), 4) if every else 0.0,
        "refused_by_reason": dict(sorted(reasons.items())),
    }


def _sample(judged: Mapping[str, Sequence[_Judged]], seed: int) -> tuple[dict[str, str], ...]:
    every = [each for study in judged.values() for each in study if each.written]
    drawn = random.Random(seed).sample(every, min(SAMPLE, len(every)))
    return tuple(
        {"composed": each.before.text, "written": each.written, "verdict": each.reason or "accepted"} for each in drawn
    )
