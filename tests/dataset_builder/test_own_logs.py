"""Sources as teams have them: odd bytes and times in parquet, objects inside records, links, request logs, other names."""

import datetime
import json
import logging
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dataset_builder import exported
from tests.dataset_builder.builds import OFF
from tests.dataset_builder.chats import conversation, write_jsonl
from wildreward.common.errors import UserError
from wildreward.dataset_builder.build import build_dataset
from wildreward.dataset_builder.select import split_of
from wildreward.dataset_builder.sources import json_array
from wildreward.dataset_builder.sources.chatgpt import CHATGPT
from wildreward.dataset_builder.sources.claude import CLAUDE
from wildreward.dataset_builder.sources.files import InputErrors
from wildreward.dataset_builder.sources.finding import find_layout
from wildreward.dataset_builder.sources.layouts import MESSAGES, Columns
from wildreward.dataset_builder.sources.readers import find_slices, read_slice
from wildreward.dataset_builder.text import detect_language

ANSWER = "Here is an answer with more than ten words in it, about number {} and nothing else at all."


def messages(number, turns=1, **more):
    found = [{"role": "user", "content": f"Please tell me all about the thing number {number} today", **more}]
    for turn in range(turns):
        found.append({"role": "assistant", "content": f"{ANSWER.format(number)} {turn}", **more})
        found.append({"role": "user", "content": f"No, that is wrong, you forgot half of it ({number}.{turn})", **more})
    return found


def read_all(path, skip=False):
    losses = InputErrors(skip)
    rows = [row for piece in find_slices(str(path), losses) for row in read_slice(piece, ["messages"], losses)]
    return rows, losses.counts


def build(source, output, **options):
    settings = {"labeler": "classifier", "near_duplicates": 0, **OFF, **options}
    return build_dataset(str(source), output, **settings)


def sides(output):
    files = sorted((output / "data").glob("*.parquet"))
    rows = ((path.name.partition("-")[0], row) for path in files for row in pq.read_table(path).to_pylist())
    return {row["id"]: (split, row) for split, row in rows}


# Reading


def test_a_byte_that_is_no_text_costs_its_row_only(tmp_path):
    texts = pa.array([f"text {i}".encode() if i != 5 else b"caf\xe9" for i in range(600)])
    text = pa.Array.from_buffers(pa.string(), 600, texts.buffers())
    pq.write_table(pa.table({"messages": text}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"a\.parquet has a row that is not UTF-8"):
        read_all(tmp_path)
    rows, lost = read_all(tmp_path, skip=True)
    assert [row["messages"] for row in rows] == [f"text {i}" for i in range(600) if i != 5]
    assert lost == {"unreadable_rows": 1}


@pytest.mark.parametrize("workers", [1, 2])
def test_points_in_time_inside_messages_do_not_matter(tmp_path, workers):
    kind = pa.struct([("role", pa.string()), ("content", pa.string()), ("at", pa.timestamp("ns"))])
    moment = datetime.datetime(2026, 1, 1)
    chats = pa.array([messages(number, at=moment) for number in range(4)], pa.list_(kind))
    late = pa.array([10**13] * 4, pa.timestamp("s"))  # of a year that Python does not know
    pq.write_table(
        pa.table({"messages": chats, "id": [f"c{i}" for i in range(4)], "language": late}), tmp_path / "a.parquet"
    )
    report = build(tmp_path / "a.parquet", tmp_path / "out", languages=[], num_workers=workers)
    assert report["turns"] == 4 and report["unlabelled"] == {"language_not_read": 4}


def test_points_in_time_inside_maps_and_lists_of_one_size_come_as_numbers(tmp_path):
    moment = pa.timestamp("ns", "UTC")  # Python's own types do not hold nanoseconds
    parts = pa.struct([("at", pa.map_(pa.string(), moment)), ("span", pa.list_(moment, 2))])
    rows = [[{"at": {"sent": 1}, "span": [2, 3]}]]
    pq.write_table(pa.table({"messages": pa.array(rows, pa.list_(parts))}), tmp_path / "a.parquet")
    found, _ = read_all(tmp_path)
    assert found == [{"messages": [{"at": [("sent", 1)], "span": [2, 3]}]}]


def test_lists_of_messages_inside_a_record_are_no_records(tmp_path, monkeypatch):
    """As where an answer was generated again: `branches` holds objects with `messages`, too."""
    monkeypatch.setattr(json_array, "CHUNK", 70)
    rows = [{"id": i, "messages": messages(i), "branches": [{"messages": messages(i, 2)}] * 3} for i in range(40)]
    (tmp_path / "nest.json").write_text(json.dumps(rows))
    found, lost = read_all(tmp_path)
    assert found == rows and not lost


@pytest.mark.parametrize(
    ("damage", "lost"),
    [
        (lambda text, at: text[:at] + text[at:].replace(": ", "  ", 1), {"corrupt_records": 1}),
        (lambda text, at: text[:at] + text[at:].replace('"', " ", 1), {"corrupt_records": 1}),
        (lambda text, at: text[: at + 40], {"cut_off_records": 1}),
    ],
)
def test_a_damaged_record_is_counted(tmp_path, damage, lost):
    text = json.dumps([{"id": i, "messages": messages(i)} for i in range(40)])
    path, whole = tmp_path / "chats.json", 17
    begin = text.index(f'{{"id": {whole},')
    path.write_text(damage(text, begin))
    rows, counts = read_all(path, skip=True)
    assert counts == lost
    assert [row["id"] for row in rows] == [
        i for i in range(40) if i < whole or (i > whole and "corrupt_records" in lost)
    ]
    with pytest.raises(UserError, match=r"chats\.json is (corrupt|cut off)"):
        read_all(path)


def test_folders_behind_links_are_read_once(tmp_path):
    real, folder = tmp_path / "real", tmp_path / "logs"
    real.mkdir(), folder.mkdir()
    write_jsonl(real / "a.jsonl", [{"id": "a"}])
    write_jsonl(folder / "b.jsonl", [{"id": "b"}])
    (folder / "2024").symlink_to(real)
    (folder / "again").symlink_to(real)
    (real / "round").symlink_to(folder)
    assert [row["id"] for row in read_all(folder)[0]] == ["a", "b"]


# Whose a conversation is


def test_columns_are_found_in_the_first_records_and_under_other_names(tmp_path):
    rows = [
        {"conversation_id": f"c{i}", "messages": messages(i)} | ({"user_id": f"u{i % 3}"} if i else {})
        for i in range(12)
    ]
    write_jsonl(tmp_path / "a.jsonl", rows)
    build(tmp_path / "a.jsonl", tmp_path / "out", test_fraction=0.5)
    found = sides(tmp_path / "out")
    assert {f"c{i}_turn0" for i in range(12)} == set(found)
    users = {}
    for number in range(1, 12):
        split, row = found[f"c{number}_turn0"]
        users.setdefault(number % 3, set()).add((split, row["user_id"]))
    assert all(len(seen) == 1 for seen in users.values())
    layout = find_layout({"messages", "id", "user", "user_id"}, name="auto", columns=Columns(user="user_id"), where="x")
    assert (layout.columns.user, layout.columns.id) == ("user_id", "id")


def test_a_file_without_the_named_user_column_is_refused(tmp_path):
    for name, column in (("a", "user_id"), ("b", "uid")):
        write_jsonl(tmp_path / f"{name}.jsonl", [{column: "u", "messages": messages(i)} for i in range(3)])
    with pytest.raises(UserError, match=r"b\.jsonl does not have the columns .*messages, user_id"):
        build(tmp_path, tmp_path.parent / "out", user_column="user_id")


def test_a_log_without_users_says_so(tmp_path, caplog):
    write_jsonl(tmp_path / "a.jsonl", [{"id": f"c{i}", "who": "me", "messages": messages(i)} for i in range(3)])
    with caplog.at_level(logging.WARNING):
        report = build(tmp_path / "a.jsonl", tmp_path / "out")
    assert "no conversation says who its user is" in caplog.text and "--user-column" in caplog.text
    assert report["users"] == {"with": 0, "without": 3, "users": 0, "largest": 0}
    card = (tmp_path / "out" / "README.md").read_text()
    assert "**No conversation says who its user is**, so a user of several may be on both sides." in card


def test_users_are_counted_in_the_report_and_the_card(tmp_path):
    rows = [{"id": f"c{i}", "user": "ab"[i % 2] if i < 3 else None, "messages": messages(i)} for i in range(4)]
    report = build(write_jsonl(tmp_path / "a.jsonl", rows), tmp_path / "out")
    assert report["users"] == {"with": 3, "without": 1, "users": 2, "largest": 2}
    assert "25% of the conversations do not say who their user is." in (tmp_path / "out" / "README.md").read_text()


def test_a_log_of_one_user_is_split_by_conversation_and_says_so(tmp_path, caplog):
    rows = [{"id": f"c{i}", "user": "me", "messages": messages(i)} for i in range(30)]
    log = write_jsonl(tmp_path / "a.jsonl", rows)
    labels = [{"id": f"c{i}_turn0", "level": 5} for i in range(30)]
    options = {"labeler": "file", "labels": str(write_jsonl(tmp_path / "labels.jsonl", labels)), "test_fraction": 0.4}
    with caplog.at_level(logging.WARNING):
        report = build(log, tmp_path / "out", **options)
    assert all(sum(labels.values()) >= 5 for labels in report["splits"].values())
    assert report["users_doubt"].startswith(
        "all 30 conversations with a user have the same one, so they are split by how"
    )
    assert report["users_doubt"] in caplog.text
    card = " ".join((tmp_path / "out" / "README.md").read_text().split())
    assert "Conversations that begin alike, and branches of one chat, are on the same side of the split." in card
    assert "**Only one user is known**, so a user of several may be on both sides." in card


@pytest.mark.parametrize("seed", range(8))
def test_answers_to_one_question_stay_on_one_side(seed):
    for layout, record in ((CHATGPT, exported.chatgpt()), (CLAUDE, exported.claude_tree())):
        branches = [layout.to_conversation(row) for row in layout.rows([record])]
        assert len(branches) == 2 and len({split_of(each, seed, 0.5, by_user=False) for each in branches}) == 1
    rated = [conversation("a question", answer, source_id=answer) for answer in ("one", "two", "three")]
    assert len({split_of(each, seed, 0.5) for each in rated}) == 1


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_warning_about_users_has_a_line_of_its_own(tmp_path, workers):
    log = write_jsonl(tmp_path / "a.jsonl", [{"id": f"c{i}", "messages": messages(i)} for i in range(3)])
    program = [sys.executable, "-m", "wildreward", "build-dataset", "--source", str(log), "--mining_window", "0"]
    program += ["--output", str(tmp_path / "out"), "--num_workers", workers]
    said = subprocess.run(program, capture_output=True, text=True, timeout=120).stderr
    assert "\r" not in said and [
        line for line in said.splitlines() if line.startswith("no conversation says who its user is")
    ], said


@settings(max_examples=40)
@given(st.integers(0, 50), st.integers(1, 4), st.integers(1, 4))
def test_one_chat_logged_again_and_again_stays_on_one_side(number, shorter, longer):
    """A log of requests has it under an id of each request, every time a turn longer."""
    texts = [message["content"] for message in messages(number, max(shorter, longer))]
    first, second = (
        conversation(*texts[: 2 * turns + 1], source_id=f"request{turns}", conversation_id=f"request{turns}")
        for turns in (shorter, longer)
    )
    assert split_of(first, 7, 0.5) == split_of(second, 7, 0.5)


def test_other_chats_without_users_fall_on_both_sides():
    found = {split_of(conversation(*[m["content"] for m in messages(number)]), 7, 0.5) for number in range(40)}
    assert found == {"train", "test"}


# What is kept


def test_a_greeting_after_the_system_message_is_left_out():
    system, greeting = {"role": "system", "content": "Be kind."}, {"role": "assistant", "content": "Hello!"}
    got = MESSAGES.to_conversation({"messages": [system, greeting, *messages(1)]})
    assert [message.role for message in got.messages] == ["system", "user", "assistant", "user"]


def test_a_language_that_nobody_knows_is_kept(tmp_path):
    names = ("unknown", "und", "", "French", "en")
    rows = [{"id": name or "empty", "language": name, "messages": messages(i)} for i, name in enumerate(names)]
    report = build(write_jsonl(tmp_path / "a.jsonl", rows), tmp_path / "out", languages="English")
    assert report["kept"] == 4 and report["dropped"] == {"language": 1}


@pytest.mark.parametrize("option", ["labels", "base_url"])
def test_options_of_another_labeler_are_refused(option):
    from wildreward.dataset_builder.settings import BuildSettings

    with pytest.raises(UserError, match=rf"--{option} has no effect with --labeler classifier; expected --labeler"):
        BuildSettings(source="x", output="y", labeler="classifier", **{option: "z"})


def test_two_builds_may_share_a_folder_for_logs(tmp_path):
    pytest.importorskip("datatrove")
    from datatrove.executor import LocalPipelineExecutor

    from wildreward.dataset_builder.cluster import run_stages

    for name in ("first", "second"):
        source = write_jsonl(
            tmp_path / f"{name}.jsonl", [{"id": f"{name}{i}", "messages": messages(i)} for i in range(3)]
        )
        options = {"labeler": "classifier", **OFF}
        build = {"source": str(source), "output": str(tmp_path / name), **options}
        run_stages(LocalPipelineExecutor, build, tasks=1, logging_dir=str(tmp_path / "logs"))
        assert (Path(tmp_path) / name / "build_report.json").exists()


SAID = {
    "French": ("Quelle est la capitale de la France ?", "La capitale de la France est Paris, une grande ville sur la Seine.", "Merci, c'est exactement ce que je voulais savoir !"),
    "Spanish": ("¿Puedes explicarme cómo funciona la fotosíntesis?", "Las plantas usan la luz del sol para hacer azúcar con agua y aire.", "Muchas gracias, ahora lo entiendo todo muy bien."),
    "English": ("Can you tell me how plants make their food?", "They use the light of the sun to make sugar out of water and air.", "Thanks a lot, now I see how that works."),
    "Chinese": ("你能告诉我植物是怎么制造食物的吗?", "它们利用阳光把水和空气变成糖, 这就是光合作用的过程。", "谢谢你, 现在我明白了, 真是太好了。"),
}  # fmt: skip


def test_the_languages_of_a_plain_log_are_detected(tmp_path):
    rows = [
        {
            "id": name,
            "messages": [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)],
        }
        for name, texts in SAID.items()
    ]
    labels = [{"id": f"{name}_turn0", "level": 5} for name in SAID]
    log = write_jsonl(tmp_path / "a.jsonl", rows)
    options = {
        "labeler": "file",
        "labels": str(write_jsonl(tmp_path / "labels.jsonl", labels)),
        "min_response_words": 5,
    }
    report = build_dataset(str(log), tmp_path / "out", near_duplicates=0, **options, **OFF)
    assert report["languages"] == {"English": 1, "Chinese": 1} and report["dropped"]["language"] == 2
    report = build_dataset(str(log), tmp_path / "all", near_duplicates=0, languages=["all"], **options, **OFF)
    assert report["languages"] == dict.fromkeys(SAID, 1)


@pytest.mark.parametrize(
    "text", ["continue", "def f(x): return x + 1", "\x00\x01 what", "Translate this: " + SAID["French"][1]]
)
def test_a_language_that_is_not_sure_is_not_said(text):
    assert detect_language(text) in (None, "English")
