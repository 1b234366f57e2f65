"""The plan of an epoch: the same steps for any number of workers, every study once, nobody idle, the budget kept."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.batches import Cost, Ints, Plan, Worker, cut, deal, plan_epoch
from model.errors import ConfigError, DataError

reports = st.lists(st.integers(1, 160), min_size=1, max_size=120).map(lambda n: np.array(n, dtype=np.int64))
costs = st.builds(Cost, prefix=st.integers(0, 40), sample=st.integers(1, 80), budget=st.integers(1, 900))
batch_sizes = st.integers(1, 40)


def plans(lengths: Ints, batch_size: int, cost: Cost, size: int, key: str = "0-s1-0") -> list[Plan]:
    """The plan of an epoch as each worker makes it; none when the workers are too many."""
    try:
        return [
            plan_epoch(lengths, key=key, batch_size=batch_size, cost=cost, worker=Worker(rank, size))
            for rank in range(size)
        ]
    except (ConfigError, DataError):
        return []


def rows_of(step: Sequence[Sequence[int]]) -> list[int]:
    return [row for micro in step for row in micro]


@settings(deadline=None)
@given(reports, batch_sizes, costs, st.integers(1, 6))
def test_every_study_is_seen_exactly_once_in_an_epoch(lengths: Ints, batch_size: int, cost: Cost, size: int) -> None:
    workers = plans(lengths, batch_size, cost, size)
    seen = Counter(row for plan in workers for step in plan for row in rows_of(step.micro_batches))
    assert seen == (Counter(range(len(lengths))) if workers else Counter())


@settings(deadline=None)
@given(reports, batch_sizes, costs, st.integers(2, 6))
def test_steps_are_the_same_for_any_number_of_workers(lengths: Ints, batch_size: int, cost: Cost, size: int) -> None:
    (alone,) = plans(lengths, batch_size, cost, 1)
    together = plans(lengths, batch_size, cost, size)
    if not together:
        return
    for number, whole in enumerate(alone):
        parts = [plan[number] for plan in together]
        assert sorted(row for part in parts for row in rows_of(part.micro_batches)) == sorted(
            rows_of(whole.micro_batches)
        )
        assert {(part.samples, part.report_tokens) for part in parts} == {(whole.samples, whole.report_tokens)}
        assert whole.report_tokens == sum(int(lengths[row]) for row in rows_of(whole.micro_batches))
    assert {len(plan) for plan in together} == {len(alone)}


@settings(deadline=None)
@given(reports, batch_sizes, costs, st.integers(1, 6))
def test_every_worker_has_something_to_do_in_every_step(lengths: Ints, batch_size: int, cost: Cost, size: int) -> None:
    for plan in plans(lengths, batch_size, cost, size):
        assert all(rows_of(step.micro_batches) for step in plan)


@settings(deadline=None)
@given(reports, costs)
def test_micro_batches_keep_to_the_budget(lengths: Ints, cost: Cost) -> None:
    batches = cut(range(len(lengths)), lengths, cost)
    for rows in batches:
        tokens = cost.prefix + sum(cost.sample + int(lengths[row]) for row in rows)
        assert tokens <= cost.budget or len(rows) == 1
    assert sorted(rows_of(batches)) == list(range(len(lengths)))


@settings(deadline=None)
@given(reports, batch_sizes)
def test_steps_are_of_one_size_and_none_is_above_the_batch_size(lengths: Ints, batch_size: int) -> None:
    (plan,) = plans(lengths, batch_size, Cost(prefix=0, sample=1, budget=100), 1)
    sizes = {step.samples for step in plan}
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    assert len(plan) == -(-len(lengths) // batch_size)


@settings(deadline=None)
@given(st.lists(st.integers(50, 200), min_size=4, max_size=60), st.integers(1, 4))
def test_workers_get_about_as_many_tokens(tokens: list[int], size: int) -> None:
    shares = deal(range(len(tokens)), np.array(tokens, dtype=np.int64), size)
    loads = [sum(tokens[row] for row in share) for share in shares]
    assert max(loads) - min(loads) <= max(tokens)


def test_few_micro_batches_are_needed() -> None:
    """Three samples fit a micro-batch; taken in their order, 60 and 40 would leave holes."""
    lengths = np.array([60, 40] * 15, dtype=np.int64)
    batches = cut(range(30), lengths, Cost(prefix=10, sample=10, budget=140))
    assert len(batches) == 15  # 70 + 50 = 120 of 130


def test_an_epoch_has_an_order_of_its_own() -> None:
    lengths = np.ones(50, dtype=np.int64)
    cost = Cost(prefix=0, sample=1, budget=100)
    orders = [plans(lengths, 8, cost, 1, key)[0].order for key in ("0-s1-0", "0-s1-1", "1-s1-0", "0-s1-s2-0", "0-s1-0")]
    assert orders[0] == orders[4]
    assert len({tuple(order) for order in orders}) == 4


@pytest.mark.parametrize(
    "studies, batch_size, size, error, why",
    [
        (100, 4, 5, ConfigError, "5 workers cannot share batches of 4"),
        (3, 16, 4, DataError, "3 training studies make batches of 3, too few for 4 workers"),
        (17, 16, 16, DataError, "17 training studies make batches of 8, too few for 16 workers"),
        (0, 4, 1, DataError, "no training studies"),
    ],
)
def test_more_workers_than_studies_are_refused(
    studies: int, batch_size: int, size: int, error: type[Exception], why: str
) -> None:
    lengths = np.ones(studies, dtype=np.int64)
    cost = Cost(prefix=0, sample=1, budget=100)
    with pytest.raises(error, match=why):
        plan_epoch(lengths, key="", batch_size=batch_size, cost=cost, worker=Worker(0, size))
