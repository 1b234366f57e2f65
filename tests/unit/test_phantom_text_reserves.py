"""The two reserves of other words: exact labels and graphs, apart from the usual reports and from each other."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from components.preprocess.phantom import sentences as say
from components.preprocess.phantom.draft import split
from components.preprocess.phantom.grammar import WORDINGS, PhantomReport, write_report
from components.preprocess.phantom.make import Settings, make_phantom
from components.preprocess.phantom.patients import sample_patients
from components.preprocess.phantom.state import Language, StudyState
from components.shared.labeler import label, split_sentences
from model.errors import ConfigError, DataError
from model.records import OBSERVATIONS

RESERVES: tuple[Language, ...] = ("paraphrased", "held_out")
SLOTS = {"side": "left", "zone": "lower", "amount": "small", "degree": "mildly", "what": "consolidation"}
# Once, with rules that had seen neither: paraphrased .9936 and .9932 (uncertain as 1, as 0). After the rules were
# mended with it, also once: held_out .9976 and .9974. On 1,880 reports each; SYNTHETIC.
ENOUGH = 0.98


def _states(language: Language, patients: int = 80) -> Iterator[StudyState]:
    for population in ("independent", "chexpert"):
        for studies in sample_patients(patients, seed=77, population=population):
            yield from (replace(study, language=language) for study in studies)


@pytest.fixture(scope="module")
def reports() -> dict[Language, list[PhantomReport]]:
    return {language: [write_report(state) for state in _states(language)] for language in get_args(Language)}


def _templates(language: Language) -> list[str]:
    wording = WORDINGS[language]
    groups = (wording.present, wording.uncertain, wording.resolved, wording.normal)
    return [template for group in groups for variants in group.values() for template in variants]


def _micro_f1(reports: list[PhantomReport], positive: tuple[int, ...]) -> float:
    cells: Counter[tuple[bool, bool]] = Counter()
    for report in reports:
        guess = label(report.findings)
        cells.update((report.labels[name] in positive, guess[name] in positive) for name in OBSERVATIONS)
    both = cells[True, True]
    return 2 * both / (2 * both + cells[True, False] + cells[False, True])


@pytest.mark.parametrize("language", RESERVES)
@pytest.mark.parametrize("positive", [(1, -1), (1,), (-1,), (0,)])
def test_the_rule_labeler_reads_words_it_was_not_written_for(
    reports: dict[Language, list[PhantomReport]], language: Language, positive: tuple[int, ...]
) -> None:
    assert _micro_f1(reports[language], positive) >= ENOUGH


def test_every_status_is_frequent_enough_to_count(reports: dict[Language, list[PhantomReport]]) -> None:
    for language in RESERVES:
        counts = Counter(value for report in reports[language] for value in report.labels.values())
        assert counts[-1] > 25 and min(counts[1], counts[0]) > 500


def test_no_sentence_of_a_reserve_is_in_a_usual_report_or_in_the_other_reserve(
    reports: dict[Language, list[PhantomReport]],
) -> None:
    said: dict[str, set[str]] = {
        language: {r.findings[a:b].lower() for r in written for a, b in split_sentences(r.findings)}
        for language, written in reports.items()
    }
    for one, other in (("usual", "held_out"), ("usual", "paraphrased"), ("paraphrased", "held_out")):
        assert len(said[one]) > 100 and not said[one] & said[other]


def test_the_templates_of_the_three_languages_differ() -> None:
    counts = Counter(
        template
        for name in get_args(Language)
        for template in {say.parse(split(t)[0], **SLOTS).tokens for t in _templates(name)}
    )
    assert max(counts.values()) == 1


@pytest.mark.parametrize("language", RESERVES)
def test_graphs_are_exact_in_the_reserves_too(reports: dict[Language, list[PhantomReport]], language: Language) -> None:
    for report in reports[language]:
        words = report.graph["text"].split(" ")
        assert len(words) == len(report.findings.replace(",", " ,").replace(".", " .").replace(";", " ;").split())
        for entity in report.graph["entities"].values():
            assert " ".join(words[entity["start_ix"] : entity["end_ix"] + 1]) == entity["tokens"]
            for _, target in entity["relations"]:
                assert target in report.graph["entities"]


def test_what_is_found_does_not_depend_on_the_words() -> None:
    for usual, other in zip(_states("usual", 20), _states("held_out", 20), strict=True):
        assert replace(other, language="usual") == usual
        assert write_report(usual).indication == write_report(other).indication


def test_the_usual_reports_are_what_they_were_before_there_were_reserves() -> None:
    """Text, labels, graphs and files of both populations, as they were in phantom@0.2.0 without this option."""
    digest = hashlib.sha256()
    for population in ("independent", "chexpert"):
        for state in (study for studies in sample_patients(60, seed=7, population=population) for study in studies):
            report = write_report(state, odd_shapes=True)
            digest.update(repr((report.findings, report.impression, report.full_text, report.labels)).encode())
            digest.update(repr((report.graph, tuple(report.mentioned), report.indication)).encode())
    assert digest.hexdigest().startswith("f79a4bed03fbf5f1")


def test_the_marker_of_a_usual_data_set_does_not_know_the_option() -> None:
    settings = Settings(
        generator="phantom",
        seed=1,
        patients=3,
        splits=[0.8, 0.1, 0.1],
        size=64,
        layout="mimic-cxr",
        population="chexpert",
        longitudinal=True,
    )
    assert "language" not in settings.recorded()
    assert replace(settings, language="held_out").recorded()["language"] == "held_out"


def test_a_folder_of_other_words_is_refused_with_the_words_it_has(tmp_path: Path) -> None:
    make_phantom(tmp_path, patients=3, seed=1, size=64, workers=1, language="paraphrased")
    with pytest.raises(DataError, match=r"another phantom data set \(language paraphrased is not usual\)"):
        make_phantom(tmp_path, patients=3, seed=1, size=64, workers=1)


def test_an_unknown_language_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no phantom language 'french'; use one of usual, paraphrased, held_out"):
        make_phantom(tmp_path / "out", patients=3, seed=1, language="french")  # type: ignore[arg-type]
