"""Logs as agents and reasoning models leave them: which turns are taken, what they hold, and what is said of the others."""

import json
import random
from collections import Counter

import pyarrow.parquet as pq
import pytest

from tests.dataset_builder.builds import OFF, build
from tests.dataset_builder.chats import chat, write_chats, write_jsonl
from tests.dataset_builder.weave import SAYS_SOMETHING, weave
from wildreward.common.errors import UserError
from wildreward.dataset_builder.read import usable
from wildreward.dataset_builder.records import request_for, turn_places
from wildreward.dataset_builder.schemas import instance_row, unpaired_row
from wildreward.dataset_builder.sources.files import InputErrors
from wildreward.dataset_builder.sources.layouts import MESSAGES, SHAREGPT
from wildreward.dataset_builder.sources.readers import find_slices, read_slice
from wildreward.packages import sharegpt_file

CALL = {"function": {"name": "find", "arguments": "{}"}}


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def turns_of(messages, **options):
    return MESSAGES.to_conversation({"id": "c", "messages": messages}, **options).turns()


def test_where_turns_are():
    assert turn_places("suauxuatau") == ((0, 1, 1, 2, 3), (2, 5, 5, 8, 9))
    assert turn_places("utauau") == ((0, 0, 0, 2, 3), (1, 0, 3, 4, 5))
    assert turn_places("uuau") == ((1, 0, 1, 2, 3),)  # the first got no answer
    assert turn_places("uaxuau") == ((1, 3, 3, 4, 5),)
    assert turn_places("uxau") == turn_places("ua") == turn_places("utu") == ()


def test_a_turn_with_tools_is_judged_by_what_was_said_last():
    looked = [assistant("Let me look.", tool_calls=[CALL]), {"role": "tool", "content": "noon"}]
    first, second = turns_of([user("q"), *looked, assistant("At noon."), user("ok"), assistant("Fine."), user("bye")])
    assert (first.query, first.response, first.feedback) == ("q", "At noon.", "ok")
    assert first.steps == "Let me look.\nfind({})\nnoon" and second.steps == ""
    first.level = 2
    row = instance_row(first)
    assert [message["role"] for message in row["messages"]] == ["user", "tool", "assistant"]
    assert unpaired_row(row)["completion"] == [assistant("At noon.")]
    assert [message.role for message in second.history] == ["user", "tool", "assistant"]
    plain, _ = turns_of([user("q"), assistant("At noon."), user("ok"), assistant("Fine."), user("bye")])
    asked, plainly = request_for(first, "feedback"), request_for(plain, "feedback")
    assert asked.key != plainly.key and (asked.steps, plainly.steps) == (first.steps, "")


def test_after_what_could_not_be_read_the_history_begins_anew():
    opening = {"role": "system", "content": "s"}
    chat = [
        opening,
        user("q"),
        assistant("a"),
        user("r"),
        user(None),
        assistant("b"),
        user("t"),
        assistant("d"),
        user("e"),
    ]
    first, last = turns_of(chat)
    assert (first.query, first.response, first.feedback) == ("q", "a", "r")
    assert (last.query, last.response, last.feedback) == ("t", "d", "e")
    assert [message.content for message in last.history] == ["s"]


def test_reasoning_is_neither_judged_nor_published_unless_asked_for():
    thought = [user("q"), assistant("<think>hm</think>a"), user("r")]
    assert turns_of(thought)[0].response == "a"
    assert turns_of(thought, keep_reasoning=True)[0].response == "<think>hm</think>a"


def test_what_was_lost_and_changed_is_counted_and_listed_with_its_place(tmp_path):
    chats, labels = write_chats(tmp_path, 6)
    rows = [json.loads(line) for line in chats.read_text().splitlines()]
    rows[1]["messages"].insert(2, user(7))
    rows[2]["messages"][0]["role"] = "nobody"
    rows[2]["messages"] = rows[2]["messages"][:2]
    rows[3]["messages"][1:1] = [assistant(None, tool_calls=[CALL]), {"role": "tool", "content": "noon"}]
    rows[4]["messages"][1]["content"] = "<think>hm</think>" + rows[4]["messages"][1]["content"]
    rows.append({**rows[5], "user": "user0"})
    report = build((write_jsonl(chats, rows), labels), tmp_path / "out", **OFF, near_duplicates=0)
    assert report["conversations_dropped"] == {"duplicate_conversation": 1, "unknown_role": 1}
    assert report["messages_lost"] == {"non_string_content": 1}
    assert report["messages_changed"] == {"answers_with_tools": 1, "reasoning_removed": 1}
    places = pq.read_table(tmp_path / "out" / "work" / "places.parquet").to_pylist()
    found = [(place["record"], place["id"], place["message"], place["what"]) for place in places]
    assert found == [
        (1, "chat1", 2, "non_string_content"),
        (2, "chat2", None, "unknown_role"),
        (3, "chat3", 3, "answers_with_tools"),
        (None, "chat5", None, "duplicate_conversation"),
    ]
    kept = [row for path in sorted(tmp_path.glob("out/data/*.parquet")) for row in pq.read_table(path).to_pylist()]
    assert not any("<think>" in str(row) for row in kept)
    assert {len(row["messages"]) for row in kept if row["id"] == "chat3_turn0"} <= {3}


def instances(rows):
    """id → what an instance holds, for all turns of a log."""
    found = {}
    for conversation in usable(rows, MESSAGES, 10**9, Counter()):
        conversation.conversation_id = conversation.source_id
        for turn in conversation.turns():
            turn.level = 2
            found[turn.id] = instance_row(turn)
    return found


def without(row, roles):
    """An instance without the messages of some roles."""
    kept = {key: [m for m in row[key] if m["role"] not in roles] for key in ("history", "messages")}
    return row | kept


def real_chats(count):
    """The first chats of ShareGPT with two turns or more, as plain messages."""
    try:
        path = sharegpt_file()
    except UserError as error:
        pytest.skip(str(error))
    (piece,) = find_slices(path, InputErrors(skip=True))
    found = []
    for row in read_slice(piece, ["conversations"], InputErrors(skip=True)):
        made = SHAREGPT.to_conversation(row)
        if (
            getattr(made, "num_turns", 0) > 1
            and "x" not in made.roles
            and row["id"] not in {each["id"] for each in found[-9:]}
        ):
            found.append({"id": row["id"], "user": made.user_id, "messages": [m._asdict() for m in made.messages]})
        if len(found) == count:
            return found
    return found


def test_a_thousand_real_chats_with_oddities_woven_in_give_the_turns_of_the_plain_ones():
    clean, draw = real_chats(1_000), random.Random(21)
    woven = [weave(row["messages"], draw) for row in clean]
    rows = [row | {"messages": each.messages} for row, each in zip(clean, woven, strict=True)]
    expected, got = instances(clean), instances(json.loads(json.dumps(rows)))
    lost = {f"{row['id']}_turn{number}" for row, each in zip(clean, woven, strict=True) for number in each.lost}
    countable = expected.keys() - lost
    print(f"{len(expected)} turns, {len(countable)} can be counted, {len(got)} taken")
    assert got.keys() <= expected.keys() and len(got.keys() & countable) >= 0.98 * len(countable)
    assert len(got) >= 0.98 * len(expected)
    kinds = {row["id"]: set(each.kind.split("+")) for row, each in zip(clean, woven, strict=True)}
    for turn in countable & got.keys():
        kind = kinds[turn.rpartition("_turn")[0]]
        if "unreadable" not in kind:
            more = {"tool", "system"} if kind & SAYS_SOMETHING else set()
            assert without(got[turn], more) == without(expected[turn], more & {"system"})


@pytest.mark.slow
def test_a_build_from_woven_chats_keeps_the_instances_of_one_from_plain_chats(tmp_path):
    clean, draw = real_chats(1_000), random.Random(21)
    rows = []
    for row in clean:
        each = weave(row["messages"], draw)
        quiet = each.kind != "unreadable" and not SAYS_SOMETHING & set(each.kind.split("+"))
        rows.append(row | {"messages": each.messages if quiet else row["messages"]})
    labels = [{"id": id_, "level": sum(map(ord, id_)) % 5 + 1} for id_ in instances(clean)]
    options = {**OFF, "languages": ["all"]}
    for name, log in (("clean", clean), ("woven", rows)):
        (tmp_path / name).mkdir()
        source = write_jsonl(tmp_path / name / "chats.jsonl", log)
        build((source, write_jsonl(tmp_path / name / "labels.jsonl", labels)), tmp_path / name / "out", **options)
    kept = [
        [row for path in sorted(tmp_path.glob(f"{name}/out/data/*.parquet")) for row in pq.read_table(path).to_pylist()]
        for name in ("clean", "woven")
    ]
    assert len(kept[0]) > 1_000
    assert kept[0] == kept[1]


def test_chats_of_the_tests_are_read_as_they_are():
    messages, _ = chat(3)
    assert [m._asdict() for m in MESSAGES.to_conversation({"messages": messages}).messages] == messages
