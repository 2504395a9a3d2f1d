"""Data that `score` cannot read, of every format: one line that names file and row, before a model or torch is loaded."""

import gzip
import json
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

CHILD = """
import sys
from wildreward.cli import run
try:
    run(sys.argv[1:])
except SystemExit as end:
    assert end.code == 2
    heavy = {"torch", "transformers", "datasets"} & set(sys.modules)
    assert not heavy, heavy
"""
GOOD = {"prompt": "q", "completions": ["a", "b"]}
LINES = (json.dumps(GOOD) + "\n").encode() * 300


def parquet(rows, cut=None):
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue().to_pybytes()[:cut]


def stream(rows, cut=None):
    sink, table = pa.BufferOutputStream(), pa.Table.from_pylist(rows)
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()[:cut]


@pytest.mark.parametrize(
    ("name", "data", "more", "told"),
    [
        ("a.jsonl", LINES + b'{"prompt": oops}\n', [], "a.jsonl, line 301: not valid JSON (Expecting value); put it right"),
        ("a.jsonl", LINES + b"\xff\n", [], "a.jsonl, line 301: not UTF-8 text"),
        ("a.jsonl", LINES + b"[1]\n", [], "a.jsonl, line 301: found a list of 1; expected an object"),
        ("a.jsonl", b"{oops\n", [], "a.jsonl, line 1: not valid JSON"),
        ("a.jsonl", b"\n\n", [], "a.jsonl is empty; expected rows to score"),
        ("a.jsonl", b'\n{"messages": 1}\n', [], "a.jsonl, line 2: messages is 1; expected a list of messages; none of the"),
        ("a.jsonl", b'{"prompt": "q"}\n', [], "a.jsonl has the columns prompt; expected messages, or prompt with"),
        ("a.jsonl.gz", gzip.compress(LINES)[:-20], [], "a.jsonl.gz cannot be read"),
        ("a.json", b"[" + json.dumps(GOOD).encode() + b",\n", [], "a.json, line 2: the list is cut off"),
        ("a.parquet", parquet([GOOD] * 9, -9), [], "a.parquet is not a readable parquet file"),
        ("a.parquet", parquet([{"prompt": "q", "completions": "b"}]), [], "a.parquet, row 1: completions is a text of 1"),
        ("a.parquet", parquet([{"prompt": "q", "completions": [1]}]), [], "a.parquet, row 1: completion 1 is 1; expected a"),
        ("a.parquet", parquet([{"prompt": "q", "text": "b"}]), [], "a.parquet has the columns prompt, text; expected"),
        ("a.parquet", parquet([GOOD | {"score": 1}]), [], "the input has a column score already"),
        ("a.parquet", parquet([{"prompt": "q", "completion": "b"}]), ["--select", "best"], "a.parquet holds completion"),
        ("a.arrow", stream([GOOD] * 9, -200), [], "a.arrow is not a readable arrow file"),
        ("a.csv", b"prompt,completion\n", [], "a.csv is a .csv file; expected one of .json, .jsonl"),
        ("a.jsonl", LINES, ["--select", "worst"], "--select is 'worst'; expected best, pairs or above=S"),
        ("a.jsonl", LINES, ["--output", "a.parquet"], "--output is a.parquet; expected a .jsonl file or a folder"),
        ("a.jsonl", LINES, ["--margin", "-1"], "--margin is -1.0; expected at least 0"),
        ("a.jsonl", LINES, ["--dataset-revision", "main"], "--dataset_revision is main, but a.jsonl is on this machine"),
        ("data/test-0.parquet", parquet([GOOD]), ["--input", "."], ". has no data/train-*.parquet"),
        ("dataset_dict.json", b'{"splits": ["dev"]}', ["--input", "."], "no split 'train'; expected --split to be one of dev"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_malformed_data_is_refused_in_one_line_before_a_model_or_torch(name, data, more, told, tmp_path):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(data)
    command = ["score", "--model", "nowhere", "--input", name, "--output", "out", *more]
    done = subprocess.run([sys.executable, "-c", CHILD, *command], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stderr.splitlines()) == 1 and told in done.stderr
    assert not (tmp_path / "out.work").exists()
