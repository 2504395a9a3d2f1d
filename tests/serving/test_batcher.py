"""The queue before the model: each caller its own results, in turn, whatever the others ask."""

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wildreward.serving.batcher import Batcher, Overloaded


def judge(rows):
    return [[float(sum(row)), float(len(row))] for row in rows]


class Gate:
    """A judge that waits to be let, and remembers its passes."""

    def __init__(self):
        self.passes, self.computing, self.let = [], threading.Event(), threading.Event()

    def __call__(self, rows):
        self.passes.append([tuple(row) for row in rows])
        self.computing.set()
        assert self.let.wait(30)
        return judge(rows)


def rows_of(name, count, length=1):
    return [[name] * length for _ in range(count)]


requests = st.lists(st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=12), max_size=8), max_size=8)


@settings(deadline=None, max_examples=60)
@given(requests, st.integers(1, 40))
def test_everyone_gets_the_results_of_their_rows(asked, budget):
    batcher = Batcher(judge, budget, 1000)
    futures = [batcher.submit(rows) for rows in asked]
    assert [future.result(30) for future in futures] == [judge(rows) for rows in asked]
    batcher.close()
    assert batcher.waiting == 0 and not batcher.alive


@settings(deadline=None, max_examples=40)
@given(requests, st.integers(1, 40))
def test_a_pass_keeps_to_its_budget(asked, budget):
    gate = Gate()
    gate.let.set()
    batcher = Batcher(gate, budget, 1000)
    for rows in asked:
        batcher.submit(rows)
    batcher.close()
    assert all(sum(map(len, rows)) <= budget or len(rows) == 1 for rows in gate.passes)
    assert sorted(row for rows in gate.passes for row in rows) == sorted(tuple(row) for rows in asked for row in rows)


def test_a_large_request_does_not_hold_up_a_small_one():
    gate = Gate()
    batcher = Batcher(gate, 8, 1000)
    batcher.submit(rows_of(0, 1))
    assert gate.computing.wait(30)
    large = batcher.submit(rows_of(1, 40))
    small = batcher.submit(rows_of(2, 2))
    gate.let.set()
    assert small.result(30) == judge(rows_of(2, 2))
    assert large.result(30) == judge(rows_of(1, 40))
    batcher.close()
    assert gate.passes[1] == [(1,), (1,), (2,), (2,)]  # each its share, in the first pass after both had come


def test_more_than_may_wait_is_refused_and_taken_once_there_is_room():
    gate = Gate()
    batcher = Batcher(gate, 4, 3)
    first = batcher.submit(rows_of(0, 1))
    assert gate.computing.wait(30)
    second = batcher.submit(rows_of(1, 3))
    with pytest.raises(Overloaded, match="3 conversations wait, of at most 3"):
        batcher.submit(rows_of(2, 1))
    gate.let.set()
    first.result(30), second.result(30)
    assert batcher.submit(rows_of(2, 3)).result(30) == judge(rows_of(2, 3))
    batcher.close()
    with pytest.raises(RuntimeError, match="closed"):
        batcher.submit(rows_of(3, 1))


def test_a_row_without_a_score_fails_its_own_request_only():
    def picky(rows):
        if any(7 in row for row in rows):
            raise ValueError("no score")
        return judge(rows)

    batcher = Batcher(picky, 6, 1000)
    asked = [rows_of(1, 5), [[1], [7], *rows_of(2, 30)], rows_of(3, 5)]
    futures = [batcher.submit(rows) for rows in asked]
    assert futures[0].result(30) == judge(asked[0]) and futures[2].result(30) == judge(asked[2])
    with pytest.raises(ValueError, match="no score"):
        futures[1].result(30)
    batcher.close()
    assert batcher.waiting == 0


def test_what_a_caller_gave_up_is_no_trouble():
    gate = Gate()
    batcher = Batcher(gate, 4, 1000)
    batcher.submit(rows_of(0, 1))
    assert gate.computing.wait(30)
    given_up, other = batcher.submit(rows_of(1, 3)), batcher.submit(rows_of(2, 3))
    assert given_up.cancel()
    gate.let.set()
    assert other.result(30) == judge(rows_of(2, 3))
    batcher.close()
