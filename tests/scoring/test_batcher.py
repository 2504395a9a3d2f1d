"""The queue before the model: each caller its own results, in turn, whatever the others ask."""

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wildreward.scoring.server.batcher import Batcher, Overloaded, Stopped


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


def submit(batcher, rows):
    batcher.reserve(len(rows))
    return batcher.submit(rows)


def rows_of(name, count, length=1):
    return [[name] * length for _ in range(count)]


requests = st.lists(st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=12), max_size=8), max_size=8)


@settings(deadline=None, max_examples=60)
@given(requests, st.integers(1, 40))
def test_everyone_gets_the_results_of_their_rows(asked, budget):
    batcher = Batcher(judge, budget, 1000)
    futures = [submit(batcher, rows) for rows in asked]
    assert [future.result(30) for future in futures] == [judge(rows) for rows in asked]
    batcher.close()
    assert batcher.waiting == 0 and not batcher.alive


@settings(deadline=None, max_examples=40)
@given(requests, st.integers(1, 40))
def test_a_pass_keeps_to_its_budget(asked, budget):
    gate = Gate()
    gate.let.set()
    batcher = Batcher(gate, budget, 1000)
    for future in [submit(batcher, rows) for rows in asked]:
        future.result(30)
    batcher.close()
    assert all(sum(map(len, rows)) <= budget or len(rows) == 1 for rows in gate.passes)
    assert sorted(row for rows in gate.passes for row in rows) == sorted(tuple(row) for rows in asked for row in rows)


def test_a_large_request_does_not_hold_up_a_small_one():
    gate = Gate()
    batcher = Batcher(gate, 8, 1000)
    submit(batcher, rows_of(0, 1))
    assert gate.computing.wait(30)
    large = submit(batcher, rows_of(1, 40))
    small = submit(batcher, rows_of(2, 2))
    gate.let.set()
    assert small.result(30) == judge(rows_of(2, 2))
    assert large.result(30) == judge(rows_of(1, 40))
    batcher.close()
    assert gate.passes[1] == [(1,)] * 6 + [(2,)] * 2  # in the first pass after both had come, which is full


def test_more_than_may_wait_is_refused_and_taken_once_there_is_room():
    gate = Gate()
    batcher = Batcher(gate, 4, 3)
    first = submit(batcher, rows_of(0, 1))
    assert gate.computing.wait(30)
    second = submit(batcher, rows_of(1, 3))
    with pytest.raises(Overloaded, match="3 conversations wait, of at most 3"):
        submit(batcher, rows_of(2, 1))
    gate.let.set()
    first.result(30), second.result(30)
    assert submit(batcher, rows_of(2, 3)).result(30) == judge(rows_of(2, 3))
    batcher.close()
    with pytest.raises(RuntimeError, match="the server stops"):
        submit(batcher, rows_of(3, 1))


def test_a_row_without_a_score_fails_its_own_request_only():
    def picky(rows):
        if any(7 in row for row in rows):
            raise ValueError("no score")
        return judge(rows)

    batcher = Batcher(picky, 6, 1000)
    asked = [rows_of(1, 5), [[1], [7], *rows_of(2, 30)], rows_of(3, 5)]
    futures = [submit(batcher, rows) for rows in asked]
    assert futures[0].result(30) == judge(asked[0]) and futures[2].result(30) == judge(asked[2])
    with pytest.raises(ValueError, match="no score"):
        futures[1].result(30)
    batcher.close()
    assert batcher.waiting == 0


def test_what_a_caller_gave_up_is_not_computed():
    gate = Gate()
    batcher = Batcher(gate, 4, 1000)
    submit(batcher, rows_of(0, 1))
    assert gate.computing.wait(30)
    given_up, other = submit(batcher, rows_of(1, 3)), submit(batcher, rows_of(2, 3))
    assert given_up.cancel()
    gate.let.set()
    assert other.result(30) == judge(rows_of(2, 3))
    batcher.close()
    assert (1,) not in [row for rows in gate.passes for row in rows] and batcher.waiting == 0


def test_a_long_row_does_not_wait_for_a_whole_large_request():
    gate = Gate()
    batcher = Batcher(gate, 16, 1000)
    submit(batcher, rows_of(0, 1))
    assert gate.computing.wait(30)
    large, long = submit(batcher, rows_of(1, 200, 2)), submit(batcher, rows_of(2, 1, 9))
    gate.let.set()
    assert long.result(30) == judge(rows_of(2, 1, 9)) and large.result(30) == judge(rows_of(1, 200, 2))
    batcher.close()
    assert any(row[0] == 2 for rows in gate.passes[1:4] for row in rows)
    assert all(sum(map(len, rows)) >= 15 for rows in gate.passes[1:20])  # and passes are full


def test_closing_fails_what_waits_and_computes_no_more_than_the_pass_under_way():
    gate = Gate()
    batcher = Batcher(gate, 4, 1000)
    first = submit(batcher, rows_of(0, 1))
    assert gate.computing.wait(30)
    waiting = [submit(batcher, rows_of(1, 100)), submit(batcher, rows_of(2, 100))]
    closing = threading.Thread(target=batcher.close)
    closing.start()
    while not batcher._closed:
        pass
    gate.let.set()
    closing.join(30)
    assert first.result(30) == judge(rows_of(0, 1)) and len(gate.passes) == 1
    for future in waiting:
        with pytest.raises(Stopped, match="the server stops; ask again later"):
            future.result(30)
    assert batcher.waiting == 0 and not batcher.alive


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_whatever_the_model_does_nobody_waits_forever():
    def broken(rows):
        raise MemoryError

    batcher = Batcher(broken, 4, 1000)
    with pytest.raises(RuntimeError, match="the server stops"):
        submit(batcher, rows_of(1, 3)).result(30)
    batcher._thread.join(30)
    assert not batcher.alive
    with pytest.raises(RuntimeError, match="the server stops"):
        submit(batcher, rows_of(2, 1))


def test_room_that_is_reserved_is_nobody_elses_until_given_back():
    batcher = Batcher(judge, 4, 3)
    batcher.reserve(2)
    with pytest.raises(Overloaded, match="2 conversations wait, of at most 3"):
        batcher.reserve(2)
    batcher.release(2)
    assert submit(batcher, rows_of(1, 3)).result(30) == judge(rows_of(1, 3))
    batcher.close()
