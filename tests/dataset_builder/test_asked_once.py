"""Equal turns in different parts are paid for once; what the server failed on is asked again, and nothing else."""

from dataclasses import replace

import pytest

from tests.dataset_builder.chats import conversation
from tests.dataset_builder.test_ledger_and_labeling import LONG, PARTS, Oracle, label
from wildreward.common.errors import UserError
from wildreward.common.llm.answers import DEADLINE, NO_ANSWER, REJECTED, SERVER_ERROR
from wildreward.common.llm.ledger import Ledger, totals
from wildreward.dataset_builder.label import has_failures, read_answers, reasons_of


def overlapping(part):
    """Parts a-d hold chats 0-2, 1-3, 2-4 and 3-5: what one part has, the next has too."""
    first = "abcd".index(part.stem)
    for number in range(first, first + 3):
        yield from conversation("q", LONG, f"follow-up {number}", conversation_id=f"{part.stem}{number}").turns()


@pytest.mark.parametrize("room", [1, 2, 100])
def test_a_turn_in_several_parts_is_asked_once_finished_or_in_flight(tmp_path, room):
    oracle = Oracle(room=room)
    label(PARTS, overlapping, oracle, tmp_path)
    assert len(oracle.asked) == len(set(oracle.asked)) == 6
    answers = [answer for part in PARTS for answer in read_answers(tmp_path, part)]
    assert len(answers) == 12 and {answer.level for answer in answers} == {len("follow-up 0") % 5 + 1}
    assert totals(tmp_path / "ledger.sqlite")["requests"] == 6


@pytest.mark.parametrize("die_after", range(7))
def test_after_a_crash_the_answers_of_other_parts_are_found(tmp_path, die_after):
    first, second = Oracle(die_after=die_after), Oracle()
    if die_after < 6:
        with pytest.raises(UserError):
            label(PARTS, overlapping, first, tmp_path)
    else:
        label(PARTS[:2], overlapping, first, tmp_path)
    label(PARTS, overlapping, second, tmp_path)
    assert len(first.asked + second.asked) == len({*first.asked, *second.asked}) == 6
    assert totals(tmp_path / "ledger.sqlite")["requests"] == 6


def test_parts_of_another_rank_share_what_was_answered_before(tmp_path):
    first, second = Oracle(), Oracle()
    label(PARTS[0::2], overlapping, first, tmp_path)
    label(PARTS[1::2], overlapping, second, tmp_path)
    assert (len(first.asked), len(second.asked)) == (5, 1)


class Moody(Oracle):
    """Fails on the follow-ups it is told to, for the reason it is told."""

    def __init__(self, failing):
        super().__init__()
        self.failing = failing

    def label(self, request):
        answer = super().label(request)
        reason = self.failing.get(request.feedback)
        return replace(answer, level=None, confidence=None, reason=reason) if reason else answer


def test_only_failures_of_the_server_are_worth_asking_again(tmp_path):
    failing = {
        "follow-up 0": SERVER_ERROR,
        "follow-up 1": DEADLINE,
        "follow-up 2": REJECTED,
        "follow-up 3": "truncated_answer",
        "follow-up 5": NO_ANSWER,
    }
    label(PARTS, overlapping, Moody(failing), tmp_path)
    assert [has_failures(tmp_path, part) for part in PARTS] == [True, True, False, True]
    assert reasons_of(tmp_path, PARTS[0]) == {SERVER_ERROR: 1, DEADLINE: 1, REJECTED: 1}
    for part in (PARTS[0], PARTS[1], PARTS[3]):
        (tmp_path / part.name).unlink()
    healed = Oracle()
    label(PARTS, overlapping, healed, tmp_path)
    assert len(healed.asked) == 3
    reasons = [answer.reason for part in PARTS for answer in read_answers(tmp_path, part)]
    by_follow_up = ["said", "said", REJECTED, "truncated_answer", "said", "said"]
    assert reasons == [by_follow_up[first + number] for first in range(4) for number in range(3)]
    again = Oracle()
    label(PARTS, overlapping, again, tmp_path)
    assert again.asked == []


def test_a_failure_is_not_taken_over_by_another_part(tmp_path):
    moody = Moody({"follow-up 1": DEADLINE, "follow-up 2": DEADLINE})
    label(PARTS[:1], overlapping, moody, tmp_path)
    healed = Oracle()
    label(PARTS[1:2], overlapping, healed, tmp_path)
    assert len(healed.asked) == 3
    assert {answer.reason for answer in read_answers(tmp_path, PARTS[1])} == {"said"}


def test_what_cannot_be_kept_is_asked_no_more(tmp_path, monkeypatch):
    def full(self, answer):
        raise UserError("disk full")

    class Watched(Oracle):
        stopped = False

        def label_many(self, requests):
            try:
                yield from super().label_many(requests)
            finally:
                self.stopped = True

    monkeypatch.setattr(Ledger, "add", full)
    oracle = Watched(room=1)
    with pytest.raises(UserError, match="disk full"):
        label(PARTS, overlapping, oracle, tmp_path)
    assert oracle.stopped and len(oracle.asked) == 1
