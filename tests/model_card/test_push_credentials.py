"""A push with a credential anywhere in it is refused before anything is sent, and the message does not repeat it."""

import json
import shutil
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.dataset_builder.builds import OFF, build
from tests.dataset_builder.chats import write_chats
from tests.model_card.test_push import WRITES, main_files
from tests.planted import CREDENTIALS
from wildreward.common.errors import UserError
from wildreward.model_card import push
from wildreward.model_card.validate import _credentials_in, _in_rows

KEY = "gh" + "p_" + "Ab3" * 12


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    build(write_chats(folder / "log", 12), folder / "out", near_duplicates=0, **OFF)
    return folder / "out"


@pytest.fixture
def dataset(built, tmp_path):
    return shutil.copytree(built, tmp_path / "dataset", ignore=shutil.ignore_patterns("work"))


def plant(path, change):
    """Rewrite a parquet file with its rows changed."""
    table = pq.read_table(path)
    rows = table.to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)
    return path


def refusal(hub, api, folder):
    with pytest.raises(UserError) as caught:
        push(folder, "user/d", api=api)
    assert not [path for method, path in hub.requests if method in WRITES and "whoami" not in path]
    return str(caught.value)


def test_a_clean_dataset_is_pushed(hub, api, dataset):
    push(dataset, "user/d", api=api)
    assert "README.md" in main_files(hub, "user/d", "datasets")


@pytest.mark.parametrize(("column", "place"), [
    ("id", lambda row, text: row.update(id=text)),
    ("model", lambda row, text: row.update(model=text)),
    ("history.content", lambda row, text: row.update(history=[{"role": "user", "content": text}])),
    ("messages.content", lambda row, text: row["messages"][1].update(content=text)),
    ("user_feedback.content", lambda row, text: row["user_feedback"].update(content=text)),
])  # fmt: skip
def test_rows_are_searched_in_all_their_columns(hub, api, dataset, column, place):
    file = next((dataset / "data").glob("train-*"))
    plant(file, lambda rows: place(rows[2], f"see {KEY} there"))
    message = refusal(hub, api, dataset)
    assert (
        f"data/{file.name} holds what looks like an access token or another secret (github_token in row 2, column {column})"
        in message
    )
    assert KEY not in message


def test_no_planted_credential_passes(tmp_path):
    texts = [frame.format(secret) for _, frame, secret in CREDENTIALS]
    pq.write_table(
        pa.table({"prompt": [[{"role": "user", "content": text}] for text in texts]}), tmp_path / "x.parquet"
    )
    found = list(_in_rows(tmp_path / "x.parquet"))
    for number, (kind, _, _) in enumerate(CREDENTIALS):
        assert f"{kind} in row {number}, column prompt.content" in found


def test_card_and_report_are_searched(hub, api, dataset):
    card = dataset / "README.md"
    before = card.read_text()
    card.write_text(before + f"\nUse {KEY}.\n")
    message = refusal(hub, api, dataset)
    assert "README.md holds what looks like" in message and "github_token in line" in message and KEY not in message
    card.write_text(before)
    report = json.loads((dataset / "build_report.json").read_text())
    (dataset / "build_report.json").write_text(json.dumps({**report, "note": "postgres://bob:" + "hunter2@db.corp.io"}))
    message = refusal(hub, api, dataset)
    assert "build_report.json holds" in message and "url_password in line 1" in message and "hunter2" not in message


def test_large_text_is_searched_and_keys_of_documentation_pass(hub, api, reward_folder):
    notice = reward_folder / "NOTICE.txt"
    notice.write_text("words of a licence\n" * 100_000 + "AKIA" + "IOSFODNN7EXAMPLE")
    push(reward_folder, "user/m", api=api)
    notice.write_text("words of a licence\n" * 100_000 + KEY)
    with pytest.raises(UserError, match=r"NOTICE\.txt holds .*github_token in line 100001"):
        push(reward_folder, "user/m", api=api)


def test_many_findings_are_counted_no_further(hub, api, dataset):
    file = next((dataset / "data").glob("train-*"))
    plant(file, lambda rows: [row.update(model=KEY) for row in rows])
    assert refusal(hub, api, dataset).count("github_token") == 3


def test_rows_are_read_in_batches(tmp_path):
    path = tmp_path / "many.parquet"
    text = "many words " * 1_000
    schema = pa.schema([("text", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        for group in range(10):
            writer.write_table(pa.table({"text": [f"{text}{group}.{row}" for row in range(200)]}, schema))
    state = path.stat()
    tracemalloc.start()
    assert _credentials_in(path, state.st_mtime_ns, state.st_size) == ()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_000_000 < 10 * 200 * len(text) / 2, f"{peak} bytes of Python objects for 22 MB of text"


@pytest.mark.parametrize(
    ("table", "place"),
    [
        (pa.table({"raw": [b"a", f"my {KEY}".encode()]}), "row 1, column raw"),
        (pa.table({KEY: ["a"]}), "the schema"),
        (pa.table({"a": [{KEY: 1}]}), "the schema"),
        (pa.table({"a": ["b"]}).replace_schema_metadata({"made by": f"{KEY} \xff".encode("latin-1")}), "the schema"),
    ],
)
def test_bytes_names_and_metadata_are_searched(tmp_path, table, place):
    pq.write_table(table, tmp_path / "rows.parquet")
    assert list(_in_rows(tmp_path / "rows.parquet")) == [f"github_token in {place}"]
