"""Who is tried again, how often, and in whose company: every unit ends once, whatever its workers do."""

from __future__ import annotations

from collections.abc import Iterator
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dad_datasets.errors import UserError
from dad_datasets.sources import WorkUnit
from dad_pipeline.runners.holding import LOADING_LIMIT_S, Holding
from dad_pipeline.runners.retry_queue import MAX_DEATHS_IN_A_ROW, Assignment, RetryQueue
from dad_pipeline.shard_generation import UnitReport
from dad_pipeline.worker import UnitFailure


def unit(number: int) -> WorkUnit:
    return WorkUnit(name=f"u-{number}", source_shard="u", start=number, count=1)


def report(number: int) -> UnitReport:
    return UnitReport(
        unit=f"u-{number}", rows=1, failed=0, reasons={}, failed_example="", tar_bytes=0, index_bytes=0, seconds={}
    )


def assigned(queue: RetryQueue, *, idle: bool = True) -> Assignment:
    assignment = queue.take(idle=idle)
    assert assignment is not None
    return assignment


def test_a_unit_that_fails_comes_back_until_its_retries_are_used_up() -> None:
    queue = RetryQueue(iter([unit(0)]), max_retries=2)
    for _ in range(2):
        assert assigned(queue) == Assignment(unit=unit(0))
        assert list(queue.settle(unit(0), UnitFailure(unit="u-0", reason="it fell"))) == []
    assigned(queue)
    failure = UnitFailure(unit="u-0", reason="it fell; tried 3 times")
    assert list(queue.settle(unit(0), UnitFailure(unit="u-0", reason="it fell"))) == [failure]
    assert not queue


def test_units_are_taken_one_ahead_and_in_order() -> None:
    taken: list[int] = []

    def units() -> Iterator[WorkUnit]:
        for number in range(4):
            taken.append(number)
            yield unit(number)

    queue = RetryQueue(units(), max_retries=0)
    assert assigned(queue) == Assignment(unit=unit(0))
    assert taken == [0, 1]


def test_a_death_is_charged_to_units_that_were_alone_with_care() -> None:
    queue = RetryQueue(iter([unit(0), unit(1)]), max_retries=0)
    holding = Holding(ready=True)
    assert [a.careful for a in holding.fill(queue)] == [False, False]
    assert list(queue.lose(holding.units.values(), "SIGSEGV", workers=1)) == []
    holding = Holding(ready=True)
    assert [a.unit for a in holding.fill(queue)] == [unit(0)]
    assert list(holding.fill(queue)) == []
    assert list(queue.lose(holding.units.values(), "SIGSEGV", workers=1)) == [
        UnitFailure(unit="u-0", reason="SIGSEGV; tried 1 time")
    ]
    holding = Holding(ready=True)
    assert list(holding.fill(queue)) == [Assignment(unit=unit(1), careful=True)]
    assert list(queue.settle(holding.end("u-1"), report(1))) == [report(1)]
    assert not queue


def test_a_worker_with_other_work_gets_no_suspect() -> None:
    queue = RetryQueue(iter([unit(0), unit(1), unit(2)]), max_retries=0)
    queue.take(idle=True), queue.take(idle=False)
    list(queue.lose([unit(0), unit(1)], "SIGKILL", workers=1))
    assert assigned(queue, idle=False).unit == unit(2)
    assert queue.take(idle=False) is None
    assert queue
    assert assigned(queue).unit == unit(0)


def test_workers_that_only_die_stop_the_run() -> None:
    queue = RetryQueue(iter([]), max_retries=1000)
    for _ in range(MAX_DEATHS_IN_A_ROW):
        assert list(queue.lose([unit(0)], "its worker died", workers=1)) == []
    with pytest.raises(UserError, match="11 workers in a row ended before finishing a unit: its worker died"):
        list(queue.lose([unit(0)], "its worker died", workers=1))


def test_workers_that_die_at_once_with_their_node_do_not_stop_the_others() -> None:
    queue = RetryQueue(iter([]), max_retries=1000)
    for _ in range(16):
        assert list(queue.lose([unit(0)], "its worker died", workers=17)) == []


def test_a_worker_that_waits_for_its_place_does_not_hang() -> None:
    clock = 0.0
    with mock.patch("dad_pipeline.runners.holding.time.monotonic", side_effect=lambda: clock):
        holding = Holding()
        clock = 10 * LOADING_LIMIT_S
        assert not holding.hangs(10)
        holding.begun = True
        holding.heard()
        clock += LOADING_LIMIT_S + 1
        assert holding.hangs(10)


def test_a_worker_without_work_or_with_progress_does_not_hang() -> None:
    clock = 0.0
    with mock.patch("dad_pipeline.runners.holding.time.monotonic", side_effect=lambda: clock):
        holding = Holding(begun=True)
        holding.heard()
        clock = LOADING_LIMIT_S
        assert not holding.hangs(10)
        clock = LOADING_LIMIT_S + 1
        assert holding.hangs(10)  # it never was ready
        assert not holding.hangs(None)
        holding.ready = True
        assert not holding.hangs(10)
        list(holding.fill(RetryQueue(iter([unit(0)]), max_retries=0)))
        clock += 9
        assert not holding.hangs(10)
        holding.heard()
        clock += 9
        assert not holding.hangs(10)
        clock += 2
        assert holding.hangs(10)


@given(
    deadly=st.sets(st.integers(0, 9)),
    failing=st.sets(st.integers(0, 9)),
    max_retries=st.integers(0, 3),
    workers=st.integers(1, 3),
    draws=st.randoms(use_true_random=False),
)
def test_only_those_that_are_to_blame_are_given_up(
    deadly: set[int], failing: set[int], max_retries: int, workers: int, draws: st.DrawFn
) -> None:
    """A model of workers that end their units in any order, and die of the deadly ones."""
    queue = RetryQueue(iter([unit(number) for number in range(10)]), max_retries)
    crew = [Holding(ready=True) for _ in range(workers)]
    ended: list[UnitReport | UnitFailure] = []
    tries = dict.fromkeys(range(10), 0)
    for _ in range(1000):
        for holding in crew:
            list(holding.fill(queue))
        busy = [number for number, holding in enumerate(crew) if holding.units]
        if not busy:
            break
        at = draws.choice(busy)  # type: ignore[attr-defined]
        name = draws.choice(sorted(crew[at].units))  # type: ignore[attr-defined]
        number = int(name.removeprefix("u-"))
        tries[number] += 1
        queue._deaths = 0  # the bound on deaths in a row has a test of its own
        if number in deadly:
            ended += queue.lose(list(crew[at].units.values()), "died", workers=workers)
            crew[at] = Holding(ready=True)
        elif number in failing:
            ended += queue.settle(crew[at].end(name), UnitFailure(unit=name, reason="failed"))
        else:
            ended += queue.settle(crew[at].end(name), report(number))
    assert not queue
    assert sorted(outcome.unit for outcome in ended) == [f"u-{number}" for number in range(10)]
    given_up = {int(o.unit.removeprefix("u-")) for o in ended if isinstance(o, UnitFailure)}
    assert given_up == deadly | failing
    # Those that are to blame fall with others once; the others fall with each of them at most once.
    assert all(tries[number] <= max_retries + 2 for number in given_up)
