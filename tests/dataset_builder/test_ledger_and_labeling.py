"""What a paid labeler answers is never lost and never asked for twice."""

import logging
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from tests.dataset_builder.chats import conversation, write_jsonl
from wildreward.common.errors import UserError
from wildreward.common.llm.answers import Answer
from wildreward.common.llm.ledger import Ledger, Prices, totals
from wildreward.dataset_builder.label import label_paid, read_answers
from wildreward.dataset_builder.labelers import make_labeler
from wildreward.dataset_builder.labelers.base import Labeler, Request
from wildreward.dataset_builder.labelers.file import FileLabeler
from wildreward.dataset_builder.records import request_for

LONG = "This is an answer that has quite enough words to pass the filter for short responses."


class Oracle(Labeler):
    """Answers late and out of order, keeps count of what it was asked, and dies where told."""

    name, paid, judges_refusals = "oracle", True, True

    def __init__(self, version="1", die_after=None, room=4):
        self.version, self.die_after, self.room = version, die_after, room
        self.asked: list[str] = []
        self.most_waiting = 0

    def label(self, request):
        if self.die_after is not None and len(self.asked) >= self.die_after:
            raise UserError("the endpoint is gone")
        self.asked.append(request.key)
        verdict = "false_refusal" if request.task == "refusal" else None
        return Answer(request.key, None if verdict else len(request.feedback) % 5 + 1, 0.5, "said", verdict, 1, 10, 2)

    def label_many(self, requests):
        waiting: list[Request] = []
        for request in requests:
            waiting.append(request)
            self.most_waiting = max(self.most_waiting, len(waiting))
            if len(waiting) == self.room:
                yield self.label(waiting.pop())  # the newest first
        while waiting:
            yield self.label(waiting.pop(0))


def turns_of(part):
    """Three chats with two turns for each part; the part's name is in the text."""
    for number in range(3):
        texts = ["q", LONG, f"one {part.stem} {number}", LONG, f"three {part.stem} {number}"]
        yield from conversation(*texts, conversation_id=f"{part.stem}-{number}").turns()


PARTS = [Path(f"{letter}.parquet") for letter in "abcd"]


def label(parts, turns, labeler, folder, task="feedback"):
    label_paid(parts, turns, labeler, task, folder, folder / "ledger.sqlite", prices=Prices())


def test_every_turn_gets_its_own_answer_in_turn_order(tmp_path):
    oracle = Oracle()
    label(PARTS, turns_of, oracle, tmp_path)
    for part in PARTS:
        expected = [len(turn.feedback) % 5 + 1 for turn in turns_of(part)]
        assert [answer.level for answer in read_answers(tmp_path, part)] == expected
    assert len(oracle.asked) == len(set(oracle.asked)) == 24
    assert oracle.most_waiting == 4


def test_after_a_crash_only_unanswered_turns_are_asked(tmp_path):
    first = Oracle(die_after=11)
    with pytest.raises(UserError, match="the endpoint is gone"):
        label(PARTS, turns_of, first, tmp_path)
    second = Oracle()
    label(PARTS, turns_of, second, tmp_path)
    assert len(first.asked) == 11 and len(second.asked) == 13 and not set(first.asked) & set(second.asked)
    third = Oracle()
    label(PARTS, turns_of, third, tmp_path)
    assert third.asked == []


def test_equal_content_is_asked_once(tmp_path):
    def same(part):
        for number in range(3):
            yield from conversation("q", LONG, "the same words", conversation_id=f"{part.stem}{number}").turns()

    oracle = Oracle()
    label(PARTS, same, oracle, tmp_path)
    assert len(oracle.asked) == 1
    answers = [answer for part in PARTS for answer in read_answers(tmp_path, part)]
    assert {(answer.level, answer.reason) for answer in answers} == {(5, "said")}
    # What was paid once is counted once.
    assert totals(tmp_path / "ledger.sqlite") == {
        "answers": 1,
        "requests": 1,
        "prompt_tokens": 10,
        "completion_tokens": 2,
    }


def test_answers_of_another_prompt_or_model_do_not_count(tmp_path):
    label(PARTS[:1], turns_of, Oracle("1"), tmp_path)
    (tmp_path / "a.parquet").unlink()
    other = Oracle("2")
    label(PARTS[:1], turns_of, other, tmp_path)
    assert len(other.asked) == 6


def test_dropped_turns_are_never_asked(tmp_path):
    def dropped(part):
        for turn in turns_of(part):
            turn.dropped = "language" if turn.number == 0 else None
            yield turn

    oracle = Oracle()
    label(PARTS[:1], dropped, oracle, tmp_path)
    assert len(oracle.asked) == 3
    assert [answer.level is None for answer in read_answers(tmp_path, PARTS[0])] == [True, False] * 3


def test_the_progress_ends_at_what_was_asked(tmp_path, caplog):
    with pytest.raises(UserError):
        label(PARTS, turns_of, Oracle(die_after=10), tmp_path)  # a is finished, of b four are answered
    caplog.clear()
    with caplog.at_level(logging.INFO):
        label(PARTS, turns_of, Oracle(), tmp_path)
    assert caplog.messages[-1].startswith("feedback: 14 of 14 turns, ")


def test_only_refusals_with_negative_feedback_go_to_the_judge(tmp_path):
    def refusals(part):
        for level, response in (
            (1, "I'm sorry, but I can't help with that."),
            (5, "I can't help with that."),
            (1, LONG),
        ):
            (turn,) = conversation("q", response, f"f{level}", conversation_id=f"{level}{response[:3]}").turns()
            turn.level = level
            yield turn

    oracle = Oracle()
    label(PARTS[:1], refusals, oracle, tmp_path, task="refusal")
    assert [answer.verdict for answer in read_answers(tmp_path, PARTS[0])] == ["false_refusal", None, None]


def test_a_labeler_that_forgets_a_request_leaves_the_turn_unlabelled(tmp_path):
    class Forgetful(Oracle):
        def label_many(self, requests):
            for number, request in enumerate(requests):
                if number != 1:
                    yield self.label(request)

    label(PARTS[:1], turns_of, Forgetful(), tmp_path)
    answers = read_answers(tmp_path, PARTS[0])
    assert answers[1].level is None and answers[1].reason == "no_answer" and answers[0].level is not None


# The key


def test_key_covers_content_and_task_but_not_the_id():
    def key(*texts, task="feedback", **fields):
        return request_for(conversation(*texts, **fields).turns()[-1], task).key

    base = key("a", "b", "c")
    assert key("a", "b", "c", conversation_id="other") == base
    others = [key("a", "b", "d"), key("ab", "", "c"), key("x", "y", "a", "b", "c"), key("a", "b", "c", task="refusal")]
    assert len({base, *others}) == 5


# The ledger file


def answer(number):
    return Answer(f"k{number}", number % 5 + 1, 0.25, "r", attempts=number, prompt_tokens=7)


def test_ledger_gives_back_what_was_added(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with Ledger(path, "v") as ledger:
        for number in range(100):
            ledger.add(answer(number))
    with Ledger(path, "v") as ledger:
        assert [ledger.find(f"k{number}") for number in range(101)] == [*map(answer, range(100)), None]
    with Ledger(path, "w") as ledger:
        assert ledger.find("k1") is None
    assert totals(path) == {"answers": 100, "requests": 4950, "prompt_tokens": 700, "completion_tokens": 0}


def test_a_second_answer_replaces_what_the_first_said_and_adds_to_what_it_cost(tmp_path):
    with Ledger(tmp_path / "ledger.sqlite", "v") as ledger:
        ledger.add(Answer("k", None, reason="server_error", attempts=6, prompt_tokens=7))
        ledger.add(Answer("k", 4, 0.5, "said", attempts=1, prompt_tokens=8, completion_tokens=9))
        assert ledger.find("k") == Answer("k", 4, 0.5, "said", attempts=7, prompt_tokens=15, completion_tokens=9)


def test_any_tool_can_look_at_a_ledger(tmp_path):
    with Ledger(tmp_path / "ledger.sqlite", "v") as ledger:
        ledger.add(answer(3))
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as database:
        assert [*database.execute("SELECT labeler, key, level, reason FROM answers")] == [("v", "k3", 4, "r")]
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.sqlite"]


def test_nobody_else_can_ask_while_a_ledger_is_open(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with Ledger(path, "v"):
        with pytest.raises(UserError, match=r"another run is writing to .*ledger\.sqlite; wait"):
            Ledger(path, "v")
        program = f"import sqlite3; sqlite3.connect({str(path)!r}, timeout=0).execute('SELECT * FROM answers')"
        other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert "database is locked" in other.stderr
    Ledger(path, "v").close()


def test_full_disk_is_an_error_that_names_the_ledger_and_loses_nothing(tmp_path):
    path, kept = tmp_path / "ledger.sqlite", 0
    with Ledger(path, "v") as ledger:
        ledger._db.execute("PRAGMA max_page_count = 8")  # SQLite's own stand-in for a full disk
        told = r"cannot write the ledger .*ledger\.sqlite: database or disk is full; answers so far are kept"
        with pytest.raises(UserError, match=told):
            for number in range(10_000):
                ledger.add(answer(number))
                kept += 1
    with Ledger(path, "v") as ledger:
        assert kept and all(ledger.find(f"k{number}") == answer(number) for number in range(kept))


def test_a_file_that_is_no_ledger_is_left_as_it_is(tmp_path):
    path = tmp_path / "ledger.sqlite"
    path.write_text("my notes, which are precious" * 100)
    with pytest.raises(UserError, match=r"cannot write the ledger .*: file is not a database"):
        Ledger(path, "v")
    assert path.read_text().startswith("my notes")


def test_attempts_of_runs_that_ended_badly_are_counted(tmp_path):
    class Persistent(Oracle):
        """Asks three times for every answer, and says so in the answers that come; those of a run that died are lost."""

        def label(self, request):
            for _ in range(3):
                request.on_ask()
            return replace(super().label(request), attempts=3)

    with pytest.raises(UserError):
        label(PARTS[:1], turns_of, Persistent(die_after=4), tmp_path)
    label(PARTS[:1], turns_of, Persistent(), tmp_path)
    assert totals(tmp_path / "ledger.sqlite")["requests"] == 18 + 3  # the fifth was asked about three times, and again


WRITER = """
import sys, time
from pathlib import Path
from wildreward.common.llm.answers import Answer
from wildreward.common.llm.ledger import Ledger
with Ledger(Path(sys.argv[1]), "v") as ledger:
    for number in range(10**6):
        ledger.count_attempt()
        ledger.add(Answer(f"k{number}", 3))
        print(number, flush=True)
        time.sleep(0.001)
"""


def test_kill_minus_9_loses_no_answer_and_no_count(tmp_path):
    path = tmp_path / "ledger.sqlite"
    child = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    for _ in range(100):
        child.stdout.readline()
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    said = 100 + len(child.stdout.read().splitlines())
    child.stdout.close()
    kept = totals(path)
    assert said <= kept["answers"] <= kept["requests"] <= said + 1
    with Ledger(path, "v") as ledger:
        assert all(ledger.find(f"k{number}") == Answer(f"k{number}", 3) for number in range(kept["answers"]))


# The labels file


def ask(labeler, id_, task="feedback"):
    return labeler.label(Request("key", id_, task, (), "q", "r", "f"))


def test_labels_from_a_file(tmp_path):
    rows = [
        {"id": "a_turn0", "level": 5, "confidence": 0.5},
        {"id": "b_turn0", "level": 1, "refusal": "justified_refusal"},
        {"id": "c_turn0", "level": None},
    ]
    labeler = FileLabeler(write_jsonl(tmp_path / "l.jsonl", rows))
    assert (ask(labeler, "a_turn0").level, ask(labeler, "a_turn0").confidence) == (5, 0.5)
    assert ask(labeler, "b_turn0").confidence is None
    assert ask(labeler, "b_turn0", "refusal").verdict == "justified_refusal"
    assert ask(labeler, "a_turn0", "refusal").verdict is None
    assert ask(labeler, "c_turn0").level is None
    assert ask(labeler, "nobody").reason == "not_in_labels_file"


def test_labels_from_parquet_equal_those_from_json_lines(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"id": f"{i}", "level": i % 5 + 1} for i in range(50)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "l.parquet")
    one, two = FileLabeler(tmp_path / "l.parquet"), FileLabeler(write_jsonl(tmp_path / "l.jsonl", rows))
    assert [ask(one, f"{i}").level for i in range(50)] == [ask(two, f"{i}").level for i in range(50)]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"id": "a", "level": 6}], "row 1: level must be 1, 2, 3, 4, 5 or null, got 6"),
        ([{"id": "a", "level": "4"}], "level must be 1, 2, 3, 4, 5 or null, got '4'"),
        ([{"id": "a", "level": True}], "got True"),
        ([{"id": "a", "level": 2.5}], "got 2.5"),
        ([{"id": "a", "label": 2}], r"has the columns id, label; expected id, level .* missing level"),
        ([{"id": "a", "level": 1, "refusal": "yes"}], "refusal must be one of"),
        ([{"id": "a", "level": 1}, {"id": "a", "level": 2}], r"two different levels to one id \(rows 1 and 2\)"),
        (
            [{"id": i, "level": 1, "refusal": r} for i, r in (("b", None), ("a", "answered"), ("a", "false_refusal"))],
            r"two different refusal verdicts to one id \(rows 2 and 3\); keep one row for each id",
        ),
        (
            [{"id": "b", "level": 1}, {"id": "a", "level": 1, "confidence": "high"}],
            "row 2: confidence must be a number",
        ),
        ([{"id": "a", "level": 1, "confidence": True}], "from 0 to 1 or null, got True"),
        ([{"id": "a", "level": 1, "confidence": 87}], "from 0 to 1 or null, got 87"),
        ([{"id": "a", "level": 1, "confidence": [0.5]}], r"got \[0.5\]"),
        ([{"id": 7, "level": 1}], "id must be text, got 7"),
        ([{"id": "a", "level": "secret " * 90}], "or null, got a text of 630 characters$"),
        ([{"id": ["secret words"], "level": 1}], "id must be text, got a value of type list$"),
        ([{"id": "a", "level": 1, "refusal": {"secret": "words"}}], "got a value of type dict$"),
    ],
)
def test_bad_labels_files_are_refused(tmp_path, rows, message):
    with pytest.raises(UserError, match=message):
        FileLabeler(write_jsonl(tmp_path / "l.jsonl", rows))


def test_labels_in_another_encoding_are_refused(tmp_path):
    path = tmp_path / "l.jsonl"
    path.write_bytes('{"id": "a", "level": 1}\n{"id": "ä", "level": 2}\n'.encode("latin-1"))
    with pytest.raises(UserError, match=r"l\.jsonl row 2 is not JSON in UTF-8 \(.*can't decode byte 0xe4"):
        FileLabeler(path)


def test_a_row_that_is_nested_too_deeply_is_refused(tmp_path):
    path = tmp_path / "l.jsonl"
    path.write_text('{"id": "a", "level": 1}\n' + '{"id": "b", "level": ' + "[" * 100_000)
    with pytest.raises(UserError, match=r"l\.jsonl row 2 is nested too deeply to be read"):
        FileLabeler(path)


def test_a_confidence_that_is_not_a_number_in_parquet_is_none(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = {"id": ["a", "b"], "level": [1, 2], "confidence": [float("nan"), 0.25]}
    pq.write_table(pa.table(rows), tmp_path / "l.parquet")
    labeler = FileLabeler(tmp_path / "l.parquet")
    assert [ask(labeler, name).confidence for name in "ab"] == [None, 0.25]


def test_missing_labels_and_models_are_asked_for():
    with pytest.raises(UserError, match="--labeler file needs --labels FILE"):
        make_labeler("file")
    with pytest.raises(UserError, match="does not exist"):
        make_labeler("file", labels="nowhere.jsonl")
    with pytest.raises(UserError, match="--labeler llm needs --model NAME"):
        make_labeler("llm")
    with pytest.raises(UserError, match="unknown labeler 'x'; expected one of classifier, llm, transformers, file"):
        make_labeler("x")
