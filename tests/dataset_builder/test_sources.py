import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wildreward.common.errors import UserError
from wildreward.dataset_builder import records
from wildreward.dataset_builder.prepare import prepare
from wildreward.dataset_builder.read import usable
from wildreward.dataset_builder.records import Conversation, Rejected
from wildreward.dataset_builder.settings import BuildSettings
from wildreward.dataset_builder.sources import readers
from wildreward.dataset_builder.sources.files import BLOCK, EDGE, WHOLE, InputErrors, source_digest
from wildreward.dataset_builder.sources.finding import find_layout
from wildreward.dataset_builder.sources.json_array import read_array
from wildreward.dataset_builder.sources.layouts import (
    LMSYS,
    MESSAGES,
    SHAREGPT,
    WILDCHAT,
    Columns,
    hashed_user,
)
from wildreward.dataset_builder.sources.readers import find_slices, read_slice


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


WILDCHAT_ROW = {
    "conversation_hash": "abc",
    "model": "gpt-4",
    "language": "English",
    "hashed_ip": "ip1",
    "toxic": False,
    "conversation": [
        {"role": "user", "content": "hello", "language": "English", "hashed_ip": "ip1", "turn_identifier": 1},
        {"role": "assistant", "content": "hi", "language": "English", "hashed_ip": None, "turn_identifier": 1},
        {"role": "user", "content": "你好", "language": "Chinese", "hashed_ip": "ip1", "turn_identifier": 2},
    ],
}


def read_all(path, wanted=(), skip=False):
    errors = InputErrors(skip)
    rows = [row for piece in find_slices(str(path), errors) for row in read_slice(piece, list(wanted), errors)]
    return rows, errors.counts


# Layouts


def test_wildchat_row_becomes_a_conversation():
    got = WILDCHAT.to_conversation(WILDCHAT_ROW)
    assert got.source_id == "abc" and got.model == "gpt-4" and got.language == "English"
    assert got.user_id == hashed_user("ip1") and "ip1" not in got.user_id
    assert [message.role for message in got.messages] == ["user", "assistant", "user"]
    assert got.message_languages == ["English", "English", "Chinese"]
    assert got.num_turns == 1 and got.turns()[0].language == "English"


def test_wildchat_parquet_reads_only_the_columns_it_needs(tmp_path):
    pq.write_table(pa.Table.from_pylist([WILDCHAT_ROW]), tmp_path / "train-0.parquet")
    rows, _ = read_all(tmp_path, WILDCHAT.wanted())
    assert set(rows[0]) == {"conversation", "conversation_hash", "hashed_ip", "language", "model"}
    assert isinstance(WILDCHAT.to_conversation(rows[0]), Conversation)


def test_sharegpt_parts_of_one_chat_belong_to_one_user():
    turns = [{"from": "human", "value": "a"}, {"from": "chatgpt", "value": "b"}]
    first, second, other = (
        SHAREGPT.to_conversation({"id": id_, "conversations": turns})
        for id_ in ("xYq0aB1_0", "xYq0aB1_13", "xZq0aB1_0")
    )
    assert first.user_id == second.user_id != other.user_id
    assert first.source_id == "xYq0aB1_0"


def test_numbered_chats_in_sharegpts_form_are_not_one_users():
    turns = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
    chats = [SHAREGPT.to_conversation({"id": f"conv_{n}", "conversations": turns}) for n in range(3)]
    assert len({chat.user_id for chat in chats}) == 3


def test_lmsys_and_plain_messages():
    chat = [user("a"), assistant("b")]
    assert LMSYS.to_conversation({"conversation_id": "1", "conversation": chat, "language": "German"}).user_id is None
    plain = MESSAGES.to_conversation({"messages": [{"role": "system", "content": "be kind"}, *chat], "user": 17})
    assert plain.source_id is None and plain.user_id == hashed_user("17")
    assert plain.messages[0].role == "system" and plain.first == 1


def test_layout_is_found_by_columns():
    assert find_layout(WILDCHAT_ROW.keys(), where="x") is not None
    assert find_layout(WILDCHAT_ROW.keys(), where="x").name == "wildchat"
    assert find_layout({"conversation", "conversation_id", "model"}, where="x").name == "lmsys"
    assert find_layout({"conversations", "id"}, where="x").name == "sharegpt"
    assert find_layout({"messages", "id"}, where="x").name == "messages"


def test_given_columns_replace_the_layouts_own():
    columns = Columns(messages="dialog", id="nr", user="who", role="speaker", content="said")
    layout = find_layout({"dialog", "nr", "who"}, columns=columns, where="x")
    row = {"dialog": [{"speaker": "human", "said": "a"}], "nr": 3, "who": "me"}
    got = layout.to_conversation(row)
    assert got.source_id == "3" and got.user_id == hashed_user("me") and got.messages[0].content == "a"


def test_unknown_layout_lists_found_and_expected():
    with pytest.raises(
        UserError, match=r"x has the columns prompt, text; expected wildchat: conversation, .*--messages-column"
    ):
        find_layout({"text", "prompt"}, where="x")
    with pytest.raises(UserError, match="expected messages: dialog"):
        find_layout({"messages"}, columns=Columns(messages="dialog"), where="x")
    with pytest.raises(UserError) as refused:
        find_layout({"my secret " * 9, *(f"c{number:02}" for number in range(40))}, where="x")
    assert "c28, c29 and 11 more" in str(refused.value) and "my secret " * 5 not in str(refused.value)
    with pytest.raises(UserError, match=r"x has the columns id, messages, but not nope \(--user-column\); expected"):
        find_layout({"messages", "id"}, columns=Columns(id="id", user="nope"), where="x")


# What a conversation must look like


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([], records.EMPTY_CONVERSATION),
        ([assistant("hi")], records.EMPTY_CONVERSATION),
        ([{"role": "system", "content": "s"}], records.EMPTY_CONVERSATION),
        ([user("a"), {"role": "narrator", "content": "s"}], records.UNKNOWN_ROLE),
        ([user("a"), {"content": "s"}], records.UNKNOWN_ROLE),
        ([user("a"), assistant("")], records.EMPTY_CONTENT),
        ([user(" \n\t")], records.EMPTY_CONTENT),
        ([user(None)], records.EMPTY_CONTENT),
        ([user(["a", {"b": 1}])], records.NON_STRING_CONTENT),
        ([user(12)], records.NON_STRING_CONTENT),
        ([user("a\ud800b")], records.INVALID_UNICODE),
        (["hello"], records.NOT_A_RECORD),
        (None, records.NOT_A_RECORD),
        ("text", records.NOT_A_RECORD),
    ],
)
def test_broken_conversations_are_rejected_with_a_reason(messages, reason):
    assert MESSAGES.to_conversation({"messages": messages}) == Rejected(reason)


def test_rejected_rows_are_counted():
    rows = [{"messages": [user("a")]}, {"messages": []}, 5, None, "x", {"messages": [user("\ud800")]}]
    counts = Counter()
    assert len(list(usable(rows, MESSAGES, 100, counts))) == 1
    assert counts["records"] == 6 and counts["conversations"] == 1
    assert counts["rejected.not_a_record"] == 3
    assert counts["rejected.empty_conversation"] == counts["rejected.invalid_unicode"] == 1


def test_leading_answers_to_something_unknown_are_left_out():
    got = MESSAGES.to_conversation({"messages": [assistant("x"), user("a"), assistant("b"), user("c")]})
    assert [message.content for message in got.messages] == ["a", "b", "c"]


def test_huge_conversation_is_cut_and_that_is_recorded(monkeypatch):
    monkeypatch.setattr("wildreward.dataset_builder.sources.layouts.MAX_CONVERSATION_CHARS", 100)
    counts = Counter()
    rows = [{"messages": [user("a" * 60), assistant("b" * 30), user("c" * 60)]}]
    (got,) = usable(rows, MESSAGES, 100, counts)
    assert [len(message.content) for message in got.messages] == [60, 30] and got.truncated
    assert counts["truncated"] == 1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


@given(
    messages=st.lists(st.dictionaries(st.sampled_from(["role", "content", "x"]), json_values) | json_values, max_size=5)
)
def test_no_record_breaks_the_adapter(messages):
    got = MESSAGES.to_conversation({"messages": messages})
    assert isinstance(got, Conversation | Rejected)


# JSON arrays


def array_records(count):
    texts = [
        'a "quoted" }, { text',
        "emoji 😀 and 漢字",
        "tail \\",
        "brace {",
        '{"id": "fake", "conversations": []}, {',
    ]
    return [{"id": str(i), "conversations": [{"from": "human", "value": texts[i % 5] * (i % 7)}]} for i in range(count)]


@settings(max_examples=60, deadline=None)
@given(indent=st.sampled_from([None, 2]), chunk=st.integers(7, 300))
def test_chunks_of_any_size_give_every_record_once(tmp_path_factory, indent, chunk):
    from wildreward.dataset_builder.sources import json_array

    path = tmp_path_factory.mktemp("a") / "a.json"
    expected = array_records(23)
    path.write_text(json.dumps(expected, indent=indent, ensure_ascii=False), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_array, "CHUNK", chunk)
        assert list(read_array(path, "conversations", pytest.fail)) == expected


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 10_000))
def test_every_complete_record_of_a_cut_off_array_is_read(tmp_path_factory, cut):
    expected = array_records(15)
    data = json.dumps(expected, indent=2, ensure_ascii=False).encode()
    cut %= len(data)
    path = tmp_path_factory.mktemp("a") / "a.json"
    path.write_bytes(data[:cut])
    errors = InputErrors(skip=True)
    got = list(read_array(path, "conversations", errors.add))
    assert got == expected[: len(got)]
    assert len(expected) - len(got) <= 15 and sum(errors.counts.values()) == 1
    whole = sum(data[:cut].decode(errors="replace").count(f'"id": "{i}"') for i in range(15))
    assert len(got) >= whole - 1


def test_corrupt_record_in_the_middle_costs_one_record(tmp_path):
    rows = array_records(9)
    text = json.dumps(rows, indent=2).replace('"id": "4"', '"id": broken', 1)
    (tmp_path / "a.json").write_text(text)
    got, counts = read_all(tmp_path / "a.json", ["conversations"], skip=True)
    assert got == rows[:4] + rows[5:] and counts == {"corrupt_records": 1}
    with pytest.raises(
        UserError, match=r"a\.json is corrupt at byte \d+, after 4 complete records; pass --on-bad-input"
    ):
        read_all(tmp_path / "a.json", ["conversations"])


def test_cut_off_array_is_an_error_that_names_the_file(tmp_path):
    text = json.dumps(array_records(3))
    (tmp_path / "a.json").write_text(text[:-20])
    with pytest.raises(UserError, match=r"a\.json is cut off in the middle of a record, after 2 complete ones"):
        read_all(tmp_path / "a.json", ["conversations"])


def test_byte_order_mark_empty_array_and_json_lines_in_a_json_file(tmp_path):
    (tmp_path / "bom.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(array_records(2)).encode())
    assert len(read_all(tmp_path / "bom.json", ["conversations"])[0]) == 2
    (tmp_path / "empty.json").write_text("[]")
    assert read_all(tmp_path / "empty.json")[0] == []
    (tmp_path / "lines.json").write_text('{"a": 1}\n{"a": 2}\n')
    assert read_all(tmp_path / "lines.json")[0] == [{"a": 1}, {"a": 2}]


def test_an_array_in_a_file_of_lines_is_read_and_what_follows_an_array_is_not_passed_over(tmp_path):
    rows = array_records(4)
    (tmp_path / "a.jsonl").write_text(json.dumps(rows, indent=1) + "\n")
    assert read_all(tmp_path / "a.jsonl") == (rows, {})
    (tmp_path / "b.jsonl").write_text(f"{json.dumps(rows)}\n{json.dumps(rows)}\n")
    with pytest.raises(UserError, match=r"b\.jsonl goes on behind the array's end, at byte \d+; pass --on-bad-input"):
        read_all(tmp_path / "b.jsonl")
    assert read_all(tmp_path / "b.jsonl", skip=True) == (rows, {"text_after_array": 1})


@pytest.mark.parametrize("deep", ["[" * 200_000, "[" * 5000 + "]" * 5000])
def test_a_record_that_is_nested_too_deeply_costs_one_record(tmp_path, deep):
    rows = array_records(5)
    lines = [json.dumps(row) for row in rows]
    lines[2] = f'{{"id": "2", "x": {deep}}}'
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    (tmp_path / "a.json").write_text(f"[{', '.join(lines)}]")
    with pytest.raises(UserError, match=r"a\.jsonl: the line at byte \d+ is nested too deeply"):
        read_all(tmp_path / "a.jsonl")
    with pytest.raises(UserError, match=r"a\.json is corrupt at byte \d+, after 2 complete records"):
        read_all(tmp_path / "a.json")
    for name, reason in (("a.jsonl", "bad_json_line"), ("a.json", "corrupt_records")):
        got = read_all(tmp_path / name, ["conversations"], skip=True)
        assert got == (rows[:2] + rows[3:], {reason: 1})


# JSON lines and parquet


@settings(max_examples=40, deadline=None)
@given(length=st.integers(1, 400))
def test_any_cut_of_json_lines_gives_every_line_once(tmp_path_factory, length):
    path = tmp_path_factory.mktemp("a") / "a.jsonl"
    rows = [{"id": i, "text": "ä" * (i % 9)} for i in range(40)]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    before, readers.JSONL_SLICE = readers.JSONL_SLICE, length
    try:
        assert read_all(path)[0] == rows
    finally:
        readers.JSONL_SLICE = before


def test_bad_line_is_an_error_or_counted(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n{"a": \n\n{"a": 3}')
    with pytest.raises(UserError, match=r"a\.jsonl: the line at byte 9 is not JSON"):
        read_all(tmp_path / "a.jsonl")
    rows, counts = read_all(tmp_path / "a.jsonl", skip=True)
    assert rows == [{"a": 1}, {"a": 3}] and counts == {"bad_json_line": 1}


def test_other_encodings_are_named(tmp_path):
    text = '{"a": "é"}\n{"a": "e"}\n'
    (tmp_path / "latin.jsonl").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"latin\.jsonl: the line at byte 0 is not UTF-8 \(.*can't decode byte 0xe9"):
        read_all(tmp_path / "latin.jsonl")
    assert read_all(tmp_path / "latin.jsonl", skip=True) == ([{"a": "e"}], {"bad_json_line": 1})
    for encoding, name in (("utf-16", "UTF-16"), ("utf-16-le", "UTF-16-LE"), ("utf-32-be", "UTF-32-BE")):
        (tmp_path / "wide.json").write_bytes(text.encode(encoding))
        with pytest.raises(UserError, match=rf"wide\.json is {name}, expected UTF-8; convert it with iconv"):
            read_all(tmp_path / "wide.json")
        assert read_all(tmp_path / "wide.json", skip=True) == ([], {"not_utf8": 1})


def test_cut_off_parquet_is_an_error_or_counted(tmp_path):
    pq.write_table(pa.table({"messages": ["x"] * 1000}), tmp_path / "good.parquet")
    data = (tmp_path / "good.parquet").read_bytes()
    (tmp_path / "bad.parquet").write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=r"bad\.parquet is not a complete parquet file"):
        read_all(tmp_path)
    rows, counts = read_all(tmp_path, skip=True)
    assert len(rows) == 1000 and counts == {"unreadable_file": 1}


def test_corrupt_page_of_a_parquet_file_is_an_error_or_counted(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"messages": [f"{i * 7919}" for i in range(5000)]}), path, compression="zstd")
    data = bytearray(path.read_bytes())
    data[1000:9000] = bytes(8000)
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"a\.parquet cannot be read to its end"):
        read_all(path)
    rows, lost = read_all(path, skip=True)
    assert lost == {"unreadable_rows": 5000 - len(rows)}


def test_row_groups_make_slices(tmp_path, monkeypatch):
    pq.write_table(pa.table({"a": list(range(100))}), tmp_path / "a.parquet", row_group_size=10)
    monkeypatch.setattr(readers, "PARQUET_SLICE_ROWS", 25)
    slices = find_slices(str(tmp_path), InputErrors())
    assert [(piece.start, piece.stop) for piece in slices] == [(0, 3), (3, 6), (6, 9), (9, 10)]
    assert [row["a"] for row in read_all(tmp_path)[0]] == list(range(100))


def test_a_missing_source_a_foreign_file_and_an_empty_folder(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.json does not exist; expected a file, a folder or a Hub dataset id"):
        find_slices(str(tmp_path / "nowhere.json"), InputErrors())
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no parquet, Arrow, JSON, JSONL or CSV file"):
        find_slices(str(tmp_path / "empty"), InputErrors())
    (tmp_path / "a.xlsx").write_text("x")
    with pytest.raises(UserError, match=r"a\.xlsx is not a parquet, Arrow, JSON, JSONL or CSV file; .*\.jsonl\.gz"):
        find_slices(str(tmp_path / "a.xlsx"), InputErrors())
    (tmp_path / "empty" / "export.7z").write_text("x")
    with pytest.raises(UserError, match=r"export\.7z is not a .* file; .*; unpack it and give the folder"):
        find_slices(str(tmp_path / "empty" / "export.7z"), InputErrors())
    (tmp_path / "empty" / "export.7z").unlink()
    with pytest.raises(UserError, match=r"holds no parquet, Arrow, JSON, JSONL or CSV file, only a\.xlsx"):
        find_slices(str(tmp_path), InputErrors())
    Path(tmp_path / "zero.jsonl").touch()
    with pytest.raises(UserError, match=r"zero\.jsonl is empty"):
        find_slices(str(tmp_path / "zero.jsonl"), InputErrors())


def test_a_file_of_another_kind_among_the_others_is_an_error_or_counted(tmp_path):
    chat = [user("a"), assistant("b"), user("c")]
    pq.write_table(pa.Table.from_pylist([{"messages": chat}] * 3), tmp_path / "a.parquet")
    pq.write_table(pa.Table.from_pylist([{"summary": "a chat"}] * 2), tmp_path / "b.parquet")
    (tmp_path / "c.jsonl").write_text('{"broken": 1}\n' + json.dumps({"messages": chat}) + "\n")
    (tmp_path / "d.jsonl").write_text(json.dumps({"topics": ["a", "b"]}) + "\n")
    settings = {"source": str(tmp_path), "output": str(tmp_path.parent / "out"), "mining_window": 0}
    with pytest.raises(
        UserError,
        match=r"b\.parquet does not have the columns .* \(messages: messages\), but summary; .*; pass --on-bad",
    ):
        prepare(BuildSettings(**settings))
    assert prepare(BuildSettings(**settings, on_bad_input="skip")).lost == {"other_columns": 2}


def test_no_file_of_a_folder_that_may_hold_chats_is_passed_over_in_silence(tmp_path, caplog):
    for number, name in enumerate(("a.jsonl", "b.JSONL", "sub/c.Json", "d.ndjson")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps({"n": number}) + "\n")
    for name in ("README.md", "LICENSE.txt", ".gitattributes", "dataset_infos.json", ".cache/e.csv", "plot.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("text")
    (tmp_path / "f.parquet").mkdir()
    assert read_all(tmp_path) == ([{"n": 0}, {"n": 1}, {"n": 3}, {"n": 2}], {})
    for name in ("b.tar.gz", "chats.XLSX", "chats.txt"):
        (tmp_path / name).write_text("text")
    with pytest.raises(
        UserError, match=r"holds files that are not .*\(3: b\.tar\.gz, chats\.XLSX, chats\.txt\); unpack"
    ):
        read_all(tmp_path)
    rows, counts = read_all(tmp_path, skip=True)
    assert len(rows) == 4 and counts == {"files_not_read": 3} and "b.tar.gz, chats.XLSX" in caplog.text


# Whether a source has changed


def test_the_digest_tells_order_sizes_and_content_but_not_place(tmp_path):
    for name, text in (("a", "xy"), ("b", "z"), ("c", "x"), ("d", "yz")):
        (tmp_path / name).write_text(text)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "e").write_text("xy")
    pairs = [("a", "b"), ("b", "a"), ("c", "d"), ("a",), ("a", "b", "c")]
    digests = [source_digest([tmp_path / name for name in names]) for names in pairs]
    assert len(set(digests)) == len(pairs)
    assert source_digest([tmp_path / "elsewhere" / "e", tmp_path / "b"]) == digests[0]


@pytest.mark.parametrize("size", [3 * EDGE + 7, WHOLE + 1, WHOLE + 12345])
def test_a_change_in_what_is_read_of_a_file_changes_the_digest(tmp_path, size):
    path = tmp_path / "large"
    with open(path, "wb") as handle:
        handle.truncate(size)
    places = [0, EDGE - 1, EDGE, EDGE + BLOCK - 1, size - EDGE - 1, size - EDGE, size - 1]
    digests = {source_digest([path])}
    for place in places:
        with open(path, "r+b") as handle:
            handle.seek(place)
            handle.write(b"x")
        digests.add(source_digest([path]))
    assert len(digests) == len(places) + 1
