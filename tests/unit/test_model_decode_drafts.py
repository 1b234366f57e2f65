"""Drafts from the training reports' phrases: what is kept, what is guessed, and what is not told of any patient."""

import random
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from model.decode.drafts import LONGEST, PATIENTS, START, Drafts
from model.errors import ManifestError

Reports = list[tuple[str, list[int]]]


def _templates(seed: int) -> Reports:
    """Reports of 30 patients from a few phrases with variants, and a few words of each patient's own."""
    draw = random.Random(seed)
    phrases = [[draw.randrange(2, 30) for _ in range(draw.randrange(2, 8))] for _ in range(6)]
    reports = []
    for patient in range(30):
        for _ in range(draw.randrange(1, 4)):
            text = [token for _ in range(3) for token in draw.choice(phrases)]
            text[draw.randrange(len(text))] = draw.randrange(2, 30)
            reports.append((f"p{patient}", [*text, 1000 + patient, 1]))
    return reports


def _plain(reports: Reports, text: list[int]) -> int | None:
    """The likeliest next token by a plain loop over all reports: after the longest run that has one."""
    text = [START, *text]
    for length in range(min(LONGEST, len(text)), 0, -1):
        patients = defaultdict(set)
        for patient, ids in reports:
            ids = [START, *ids]
            for i in range(len(ids) - length):
                if ids[i : i + length] == text[-length:]:
                    patients[ids[i + length]].add(patient)
        counts = {token: len(found) for token, found in patients.items() if len(found) >= PATIENTS}
        if counts:
            return min(counts, key=lambda token: (-counts[token], token))
    return None


@pytest.mark.parametrize("seed", range(2))
def test_guesses_are_those_of_a_plain_loop_over_the_reports(seed: int) -> None:
    reports = _templates(seed)
    drafts = Drafts.fit(reports)
    draw = random.Random(seed)
    hits: Counter[bool] = Counter()
    for _, ids in draw.sample(reports, 12):
        for stop in range(0, len(ids), 3):
            expected = _plain(reports, ids[:stop])
            assert drafts.after(ids[:stop], 1) == ([] if expected is None else [expected])
            hits[expected is not None] += 1
    assert hits[True] > 30


def test_several_guesses_are_guesses_one_after_the_other() -> None:
    drafts = Drafts.fit(_templates(0))
    text = drafts.after([], 9)
    assert len(text) == 9
    assert text == [drafts.after(text[:i], 1)[0] for i in range(9)]


def test_only_phrases_that_five_patients_share_are_kept() -> None:
    """However often one patient's reports say it."""
    own = [("one patient", [7, 8, 9, 1])] * 50
    four = [(f"p{i}", [5, 6, 1]) for i in range(4)]
    assert Drafts.fit(own + four).likeliest == {}
    drafts = Drafts.fit([*own, *four, ("p4", [5, 6, 1])])
    assert drafts.after([], 9) == [5, 6, 1]
    assert not {7, 8, 9} & {token for run, token in drafts.likeliest.items() for token in (*run, token)}
    kept = {token for run, token in Drafts.fit(_templates(0)).likeliest.items() for token in (*run, token)}
    assert max(kept) < 1000  # every patient's own word is above


def test_runs_that_say_what_shorter_ones_say_are_left_out() -> None:
    drafts = Drafts.fit((str(i), [5, 6, 7, 8, 9, 1]) for i in range(5))
    assert drafts.likeliest == {(START,): 5, (5,): 6, (6,): 7, (7,): 8, (8,): 9, (9,): 1}


def test_a_file_holds_the_same_drafts(tmp_path: Path) -> None:
    for drafts in (Drafts.fit(_templates(0)), Drafts.fit([])):
        drafts.save(tmp_path / "drafts.safetensors")
        assert Drafts.load(tmp_path / "drafts.safetensors").likeliest == drafts.likeliest


@pytest.mark.parametrize("content", [b"", b"not safetensors at all"])
def test_a_broken_file_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "drafts.safetensors").write_bytes(content)
    with pytest.raises(ManifestError, match=r"no file of drafts.*register") as caught:
        Drafts.load(tmp_path / "drafts.safetensors")
    assert "\n" not in str(caught.value)
