"""The same chats in every format and under every name; several kinds in one folder; what is unknown; a dry run."""

import bz2
import csv
import gzip
import json
import re
import subprocess
import sys

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.dataset_builder import exported
from tests.dataset_builder.builds import OFF, rows_of
from tests.dataset_builder.chats import chat, write_chats, write_jsonl
from tests.dataset_builder.test_exports import rows_in
from tests.dataset_builder.test_zipped import zipped
from wildreward.common.errors import UserError
from wildreward.dataset_builder.build import build_dataset
from wildreward.dataset_builder.prepare import prepare, with_layouts
from wildreward.dataset_builder.preview import preview
from wildreward.dataset_builder.settings import BuildSettings
from wildreward.dataset_builder.sources.files import InputErrors
from wildreward.dataset_builder.sources.finding import find_layout
from wildreward.dataset_builder.sources.readers import find_slices, read_slice

ROWS = [{"id": f"chat{n}", "user": f"u{n % 5}", "messages": chat(n)[0]} for n in range(12)]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
TEXTS = [{**row, "messages": json.dumps(row["messages"])} for row in ROWS]


def as_csv(path, rows, delimiter=","):
    with open(path, "w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def saved(path):
    split = datasets.Dataset.from_list(ROWS)
    datasets.DatasetDict(train=split.select(range(8)), test=split.select(range(8, 12))).save_to_disk(path)


def text_inside(path):
    """Columns of a database dump: a whole request as JSON."""
    rows = [{"id": row["id"], "user": row["user"], "body": json.dumps({"messages": row["messages"]})} for row in ROWS]
    pq.write_table(pa.Table.from_pylist(rows), path)


def nested(path):
    rows = [{"meta": {"id": r["id"], "by": {"user": r["user"]}}, "data": {"messages": r["messages"]}} for r in ROWS]
    pq.write_table(pa.Table.from_pylist(rows), path)


NESTED = {"messages_column": "data.messages", "id_column": "meta.id", "user_column": "meta.by.user"}
FORMATS = [
    ("a.jsonl.gz", lambda path: path.write_bytes(gzip.compress(LINES)), {}),
    ("a.jsonl.bz2", lambda path: path.write_bytes(bz2.compress(LINES)), {}),
    ("a.jsonl.zst", lambda path: path.write_bytes(pa.compress(LINES, codec="zstd", asbytes=True)), {}),
    ("a.json.gz", lambda path: path.write_bytes(gzip.compress(json.dumps(ROWS, indent=1).encode())), {}),
    (
        "export.zip",
        lambda path: zipped(path, {"export/a.jsonl": LINES, "export/chat.html": b"<p>", "__MACOSX/._a.jsonl": b"x"}),
        {},
    ),
    ("a.csv", lambda path: as_csv(path, TEXTS), {}),
    ("a.tsv", lambda path: as_csv(path, TEXTS, "\t"), {}),
    ("saved", saved, {}),
    ("a.parquet", nested, NESTED),
    ("inside.parquet", text_inside, {}),
    ("text.parquet", lambda path: pq.write_table(pa.Table.from_pylist(TEXTS), path), {}),
    ("wrapped.json", lambda path: path.write_text(json.dumps({"rows": ROWS, "total": 12}, indent=2)), {}),
    ("named.json", lambda path: path.write_text(json.dumps({"conversations": ROWS})), {}),
    ("pretty.json", lambda path: path.write_text("\n".join(json.dumps(row, indent=2) for row in ROWS)), {}),
]


def conversations(path, **options):
    """By their ids."""
    errors, options = InputErrors(), BuildSettings(source=str(path), **options)
    slices, layouts = with_layouts(find_slices(str(path), errors), options, errors)
    found = []
    for piece in slices:
        layout = layouts[piece.path]
        found += [layout.to_conversation(row) for row in layout.rows(read_slice(piece, layout.wanted(), errors))]
    return sorted(found, key=lambda conversation: conversation.source_id or "")


@pytest.mark.parametrize(("name", "write", "options"), FORMATS, ids=[name for name, *_ in FORMATS])
def test_every_format_gives_the_same_conversations(tmp_path, name, write, options):
    (tmp_path / "plain.jsonl").write_bytes(LINES)
    write(tmp_path / name)
    assert conversations(tmp_path / name, **options) == conversations(tmp_path / "plain.jsonl")


def test_a_build_from_compressed_slices_is_the_plain_one_and_goes_on(tmp_path):
    half = LINES.index(b'{"id": "chat6"')
    for folder in ("plain", "packed"):
        (tmp_path / folder).mkdir()
    (tmp_path / "plain" / "a.jsonl").write_bytes(LINES[:half])
    (tmp_path / "plain" / "b.jsonl").write_bytes(LINES[half:])
    (tmp_path / "packed" / "a.jsonl.gz").write_bytes(gzip.compress(LINES[:half]))
    (tmp_path / "packed" / "b.jsonl.zst").write_bytes(pa.compress(LINES[half:], codec="zstd", asbytes=True))
    levels = [{"id": f"chat{n}_turn{turn}", "level": level} for n in range(12) for turn, level in enumerate(chat(n)[1])]
    labelled = {"labeler": "file", "labels": str(write_jsonl(tmp_path / "labels.jsonl", levels)), **OFF}
    for folder in ("plain", "packed"):
        build_dataset(str(tmp_path / folder), tmp_path / f"{folder}-out", **labelled)
    assert rows_of(tmp_path / "packed-out") == rows_of(tmp_path / "plain-out")
    work = tmp_path / "packed-out" / "work"
    (tmp_path / "packed-out" / "build_report.json").unlink()
    (work / "conversations" / "00001.json").unlink()  # as after a kill: the second slice alone is read again
    before = (work / "conversations" / "00000-00000.parquet").stat().st_mtime_ns
    build_dataset(str(tmp_path / "packed"), tmp_path / "packed-out", **labelled)
    assert (work / "conversations" / "00000-00000.parquet").stat().st_mtime_ns == before
    assert rows_of(tmp_path / "packed-out") == rows_of(tmp_path / "plain-out")
    (tmp_path / "packed" / "a.jsonl.gz").write_bytes(gzip.compress(LINES[:half].replace(b"gardens", b"orchard")))
    with pytest.raises(UserError, match="source_digest"):
        build_dataset(str(tmp_path / "packed"), tmp_path / "packed-out", **labelled)


@pytest.mark.parametrize("ending", ["gz", "zst"])
def test_a_cut_off_compressed_file_is_an_error_or_counted(tmp_path, ending):
    path = tmp_path / f"a.jsonl.{ending}"
    data = gzip.compress(LINES) if ending == "gz" else pa.compress(LINES, codec="zstd", asbytes=True)
    path.write_bytes(data[: len(data) - 30])
    with pytest.raises(
        UserError, match=rf"a\.jsonl\.{ending} cannot be read \(Truncated compressed stream\); pass --on"
    ):
        list(read_slice(find_slices(str(path), InputErrors())[0], [], InputErrors()))
    path.write_bytes(b"no such thing " * 9)
    with pytest.raises(UserError, match=rf"a\.jsonl\.{ending} cannot be read \(.+\); pass --on-bad-input skip"):
        find_slices(str(path), InputErrors())


def test_damaged_arrow_and_csv_files_are_an_error_or_counted(tmp_path):
    saved(tmp_path / "saved")
    arrow = next((tmp_path / "saved" / "train").glob("*.arrow"))
    arrow.write_bytes(arrow.read_bytes()[:-900])
    with pytest.raises(UserError, match=r"\.arrow cannot be read to its end \(.+\); pass --on-bad-input"):
        [list(read_slice(piece, ["messages"], InputErrors())) for piece in find_slices(str(arrow), InputErrors())]
    (tmp_path / "a.csv").write_text("role,content\nuser,hi\nuser,a,b\nuser,ü\n", encoding="utf-8")
    (piece,) = find_slices(str(tmp_path / "a.csv"), InputErrors())
    with pytest.raises(UserError, match=r"a\.csv: line 3 has 3 fields, the first line 2; pass --on-bad-input"):
        list(read_slice(piece, [], InputErrors()))
    errors = InputErrors(skip=True)
    assert [row["content"] for row in read_slice(piece, [], errors)] == ["hi", "ü"]
    assert errors.counts == {"bad_csv_line": 1}


def test_messages_are_found_under_any_name(tmp_path):
    """In an object, in JSON that is text, with other keys; without a word from the user."""
    said = [{"speaker": m["role"], "text": m["content"]} for m in ROWS[0]["messages"]]
    kept = [(m["role"], m["content"]) for m in ROWS[0]["messages"]]
    for number, row in enumerate(
        [
            {"dialog": said},
            {"request": {"body": json.dumps({"messages": ROWS[0]["messages"]})}, "status": 200},
            {"conversations": ROWS[0]["messages"]},
            {
                "messages": [
                    {"from": m["role"].replace("user", "human"), "value": m["content"]} for m in ROWS[0]["messages"]
                ]
            },
        ]
    ):
        path = tmp_path / f"{number}.jsonl"
        path.write_text(json.dumps(row) + "\n")
        (got,) = conversations(path)
        assert [tuple(message) for message in got.messages] == kept


def test_a_list_of_messages_is_a_conversation(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps([row["messages"] for row in ROWS]))
    report = build_dataset(
        str(tmp_path / "a.json"), tmp_path / "out", labeler="file", labels=no_labels(tmp_path), **OFF
    )
    assert report["conversations"] == 12 and report["turns"] == 36


def no_labels(folder):
    return str(write_jsonl(folder / "labels.jsonl", [{"id": "x", "level": 1}]))


def test_several_kinds_in_one_folder_are_told_apart(tmp_path, caplog):
    folder = tmp_path / "logs"
    write_chats(folder / "plain", 3)
    (folder / "plain" / "labels.jsonl").unlink()
    (folder / "claude").mkdir()
    (folder / "claude" / "conversations.json").write_text(json.dumps([exported.claude()]))
    (folder / "claude" / "users.json").write_text(json.dumps([{"uuid": "u1", "full_name": "Jo"}]))
    (folder / "claude" / "projects").mkdir()
    (folder / "claude" / "projects" / "p1.json").write_text(json.dumps({"uuid": "p1", "docs": []}))
    (folder / "chatgpt.json").write_text(json.dumps([exported.chatgpt()]))
    caplog.set_level("INFO")
    report = build_dataset(str(folder), tmp_path / "out", languages="all", **OFF)
    assert report["settings"]["layout"] == "chatgpt, claude, messages"
    assert (
        report["conversations"] == 3 + 1 + 1 and report["turns"] == 9 + 1 + 1
    )  # the exports hold the same chat; in one, its end is rated
    assert report["conversations_dropped"] == {"duplicate_conversation": 1}
    assert report["input_lost"] == {"files_without_chats": 2} and "users.json comes with the export" in caplog.text


def test_users_json_alone_is_no_source(tmp_path):
    (tmp_path / "users.json").write_text(json.dumps([{"uuid": "u1", "full_name": "Jo"}]))
    with pytest.raises(UserError, match=r"users\.json has the columns full_name, uuid; expected wildchat"):
        with_layouts(find_slices(str(tmp_path), InputErrors()), BuildSettings(source="x"), InputErrors())


# Unknown shapes: what was seen, what was expected, which option helps


@pytest.mark.parametrize(
    ("records", "options", "told"),
    [
        ([{"prompt": "a", "text": "b"}], {}, ["columns prompt, text;", "messages: messages", "--messages-column"]),
        (
            [{"chosen": [{"role": "user", "content": "a"}], "rejected": [{"role": "user", "content": "a"}]}],
            {},
            ["columns chosen, rejected;", "Messages are in chosen, rejected: choose one with --messages-column"],
        ),
        (
            [{"turns": [{"wer": "ich", "was": "hallo"}], "id": 1}],
            {},
            ["columns id, turns;", "turns holds objects with was, wer", "--messages-column turns with --role-key"],
        ),
        ([{"messages": []}], {"messages_column": "data.messages"}, ["not data.messages (--messages-column)"]),
        ([exported.claude()], {"user_column": "uuid"}, ["layout claude", "leave out --user-column"]),
        ([{"a\nb" * 40: 1}], {}, ["expected wildchat"]),
        ([{"conversation_id": 1, "role": "user"}], {}, ["lines: conversation_id, role, content"]),
    ],
)
def test_an_unknown_shape_is_one_line_with_the_way_out(tmp_path, records, options, told):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    with pytest.raises(UserError) as caught:
        prepare(BuildSettings(source=str(path), output=str(tmp_path / "out"), **options, **OFF))
    message = str(caught.value)
    assert all(part in message for part in told), message
    assert "\n" not in message and len(message) < 900


def test_a_layout_that_is_named_is_not_searched_for():
    rows = [{"messages": [{"role": "user", "content": "a"}], "conversations": []}]
    assert find_layout(set(), name="sharegpt", where="x", records=rows).name == "sharegpt"
    with pytest.raises(UserError, match=r"x has the columns .*; expected chatgpt: mapping, current_node"):
        find_layout(set(), name="chatgpt", where="x", records=rows)


# A dry run


def test_a_dry_run_tells_what_a_build_would_take_and_writes_nothing(tmp_path):
    log, labels = write_chats(tmp_path / "log", 400)
    labels.unlink()
    rows = log.read_text().replace("next to it", "next to it, jane.doe@company.org")
    log.write_text(rows + '{"messages": []}\n')
    before = sorted(tmp_path.rglob("*"))
    program = [sys.executable, "-m", "wildreward", "build-dataset", "--source", str(log), "--dry-run"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "all of it was read (401 records)" in done.stdout
    assert f"{log}: layout messages, messages in messages: 400 conversations, 1,200 turns" in done.stdout
    assert "conversations not used: empty_conversation 1" in done.stdout and "nothing was written" in done.stdout
    assert done.stdout.count("as the labeler would see it") == 3 and "jane.doe" not in done.stdout
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet"])
def test_the_cost_is_projected_from_a_sample(tmp_path, monkeypatch, name):
    monkeypatch.setattr("wildreward.dataset_builder.preview.RECORDS", 100)
    rows = [{"id": f"c{n}", "messages": chat(n % 50)[0]} for n in range(1000)]
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    if name == "a.parquet":
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / name)
    else:
        (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    options = {"labeler": "llm", "model": "m", "price_prompt": 2.0}
    said = preview(BuildSettings(source=str(tmp_path / name), dry_run=True, **options))
    assert "a sample of 100 records was read" in said
    turns = int(re.search(r"about ([\d,]+), of which", said)[1].replace(",", ""))
    assert turns == pytest.approx(3000, rel=0.1)
    tokens, each = re.search(r"([\d.]+) million prompt tokens \(([\d,]+) a question\)", said).groups()
    assert float(tokens) == pytest.approx(turns * int(each.replace(",", "")) / 1e6, abs=0.02)
    assert f"at the given prices at most {float(tokens) * 2:,.1f}" in said


def test_a_dry_run_is_not_a_build(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(LINES)
    with pytest.raises(UserError, match="a dry run writes nothing"):
        build_dataset(str(tmp_path / "a.jsonl"), tmp_path / "out", dry_run=True)
    assert not (tmp_path / "out").exists()


def test_a_dry_run_of_broken_input_says_where_a_build_would_stop(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(LINES + b'{"broken": \n')
    said = preview(BuildSettings(source=str(tmp_path / "a.jsonl"), dry_run=True))
    assert "input lost: bad_json_line 1 (" in said and "unless --on-bad-input skip is given" in said


def test_a_dry_run_says_why_nothing_can_be_used(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"messages": 5}\n')
    said = preview(BuildSettings(source=str(tmp_path / "a.jsonl"), dry_run=True))
    assert "none can be used: messages is 5; expected a list of objects with role and content" in said


def test_a_log_of_messages_and_of_one_document_counts_its_turns(tmp_path):
    _, rows = rows_in(exported_table(tmp_path))
    assert len(rows) == 12


def exported_table(folder):
    """One message a line, as a table."""
    lines = [
        {"conversation_id": row["id"], "index": place, "sender": message["role"], "text": message["content"]}
        for row in ROWS
        for place, message in enumerate(row["messages"])
    ]
    as_csv(folder / "messages.csv", lines[::-1], ";")
    return folder / "messages.csv"
