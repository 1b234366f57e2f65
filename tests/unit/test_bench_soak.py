"""Damaged inputs can be made again from a seed, and memory that grows is called growing."""

import json

from bench.mutants import DAMAGES, mutants
from bench.soak import Outcomes, flatness, page

ORIGINALS = {"a": bytes(range(256)) * 20, "b": b"\x89PNG" + bytes(4000)}


def test_the_same_seed_gives_the_same_files_and_another_seed_others() -> None:
    first, again, other = (list(mutants(ORIGINALS, 200, seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert first[150:] == list(mutants(ORIGINALS, 200, 1))[150:]


def test_every_damage_occurs_and_nearly_every_file_is_changed() -> None:
    made = list(mutants(ORIGINALS, 400, 3))
    assert {name.split()[2] for name, _ in made} == {damage.__name__ for damage in DAMAGES}
    unchanged = [name for name, data in made if data in ORIGINALS.values()]
    assert len(unchanged) < 40, unchanged  # zeros over zeros change nothing


def test_memory_is_flat_when_it_stays_after_the_first_minute_and_not_when_it_grows() -> None:
    times = [5.0 * i for i in range(60)]
    rises_first = [(t, 500 + min(t, 50) * 4) for t in times]
    leaks = [(t, 500 + 0.5 * t) for t in times]
    assert flatness(rises_first)["flat"] is True
    assert flatness(leaks)["flat"] is False
    assert flatness(rises_first[:10])["flat"] is None


def test_outcomes_reach_the_json_and_the_page() -> None:
    phase = Outcomes()
    for outcome, is_failure in (("report", False), ("refused: empty", False), ("no answer: OSError", True)):
        phase.note("7 png noise", outcome, is_failure)
    found = {"mutants": phase.told(), "soak": phase.told(), "minutes": 5.0, **flatness([(5.0, 1.0)])}
    about = {"date": "d", "commit": "c", "machine": "m", "version": "v", "callers": 4, "seed": 1}
    text = page(json.loads(json.dumps(found | {"conditions": about})))
    assert "3 requests, 1 crashes, hangs or unclear refusals." in text
    assert "| refused: empty | 1 |" in text
    assert "- 7 png noise: no answer: OSError" in text
