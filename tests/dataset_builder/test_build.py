"""Whole builds: what comes out, whoever does the work."""

import json
import os
import shutil
from collections import defaultdict

import pyarrow.parquet as pq
import pytest
import yaml

from tests.dataset_builder.builds import OFF, build, rows_of, run
from tests.dataset_builder.chats import chat, write_chats, write_jsonl
from wildreward.dataset_builder import figures, shards
from wildreward.dataset_builder.build import build_dataset
from wildreward.dataset_builder.card import metadata
from wildreward.dataset_builder.sources.layouts import hashed_user


@pytest.fixture(scope="module")
def built(log, tmp_path_factory, tiny_encoder):
    """A dataset folder with implicit feedback, and its report."""
    folder = tmp_path_factory.mktemp("built") / "data"
    return folder, build(log, folder, mining_encoder=tiny_encoder)


# What comes out


def test_rows_have_the_documented_columns_and_agree_with_the_log(built, log):
    folder, report = built
    rows = [row for path in (folder / "data").iterdir() for row in pq.read_table(path).to_pylist()]
    assert len(rows) == report["kept"] > 50
    for row in rows:
        number, turn = (int(text) for text in row["id"].removeprefix("chat").split("_turn"))
        messages, levels = chat(number)
        assert row["history"] == messages[: 2 * turn] and row["messages"] == messages[2 * turn : 2 * turn + 2]
        assert row["user_feedback"] == messages[2 * turn + 2] and row["turn"] == turn
        assert row["conversation_id"] == f"chat{number}"
        if row["label_source"] == "explicit":
            assert row["level"] == levels[turn]
        else:
            assert levels[turn] == 3 and row["level"] in levels[turn + 1 : turn + 3]
        assert row["label"] == {1: 1, 2: 2, 4: 3, 5: 4}[row["level"]]


def test_no_user_is_on_both_sides(built):
    folder, _ = built
    sides = [
        {row["user_id"] for path in (folder / "data").glob(f"{split}-*") for row in pq.read_table(path).to_pylist()}
        for split in ("train", "test")
    ]
    assert sides[0] and sides[1] and not sides[0] & sides[1]


def test_published_users_are_of_no_use_to_whoever_tries_out_addresses(built, log, tmp_path):
    """The same name for all turns of a user, another one in a dataset from other chats, and none that a guess gives."""
    more = tmp_path / "more.jsonl"
    more.write_text(log[0].read_text() + log[0].read_text().splitlines()[0].replace("number 0", "number 120"))
    build((more, log[1]), tmp_path / "out", **OFF)
    names = []
    for folder in (built[0], tmp_path / "out"):
        users = defaultdict(set)
        for path in (folder / "data").glob("*.parquet"):
            for row in pq.read_table(path).to_pylist():
                number = int(row["conversation_id"].removeprefix("chat").split("-")[0])
                users[f"user{number % 20}"].add(row["user_id"])
        assert all(len(found) == 1 for found in users.values())
        names.append({user: found.pop() for user, found in users.items()})
    assert len(set(names[0].values())) == len(names[0]) == 20
    assert not set(names[0].values()) & set(names[1].values())
    assert not set(names[0].values()) & {hashed_user(f"user{number}") for number in range(20)}


def test_the_report_adds_up(built):
    folder, report = built
    assert report["turns"] == 360 == report["kept"] + sum(report["dropped"].values())
    assert report["labelled"] == sum(report["levels"].values()) == 360
    assert report["kept"] == sum(sum(split.values()) for split in report["splits"].values())
    assert report["mined"] > 0 and report["label_sources"]["mined"]
    assert report == json.loads((folder / "build_report.json").read_text())
    levels = pq.read_table(folder / "work" / "levels.parquet").to_pylist()
    assert len(levels) == 360 and sum(row["dropped"] is None for row in levels) == report["kept"]
    assert {row["labeler"] for row in levels} == {"file"}


def test_load_dataset_takes_both_configurations(built, tmp_path):
    from datasets import load_dataset

    folder, report = built
    data = load_dataset(str(folder), cache_dir=str(tmp_path))
    assert {split: len(data[split]) for split in data} == {
        split: sum(labels.values()) for split, labels in report["splits"].items()
    }
    pairs = load_dataset(str(folder), "unpaired_preference", cache_dir=str(tmp_path))
    assert len(pairs["train"]) == len(data["train"])
    for row, pair in zip(data["train"], pairs["train"], strict=True):
        assert pair["prompt"] == [*row["history"], row["messages"][0]] and pair["completion"] == [row["messages"][1]]
        assert pair["label"] is (row["level"] >= 4)


def test_the_card_is_valid_and_its_figures_exist(built):
    folder, report = built
    text = (folder / "README.md").read_text()
    header = yaml.safe_load(text.split("---\n")[1])
    assert [config["config_name"] for config in header["configs"]] == ["default", "unpaired_preference"]
    assert header["dataset_info"][0]["splits"][0]["num_examples"] == sum(report["splits"]["train"].values())
    assert f"{report['kept']:,} instances" in text
    assert sorted(path.name for path in (folder / "figures").iterdir()) == ["funnel.png", "levels.png"]
    assert all(path.stat().st_size > 5000 for path in (folder / "figures").iterdir())


@pytest.mark.parametrize(("unknown", "expected"), [(10, ["en", "zh"]), (11, None)])
def test_a_card_names_languages_only_where_nearly_all_are_known(built, unknown, expected):
    languages = {"English": 90 - unknown, "Chinese": 10, "unknown": unknown}
    assert metadata({**built[1], "kept": 100, "languages": languages}, "t").get("language") == expected


def test_the_legend_names_no_label_source_without_instances(built, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(figures, "_save", lambda figure, path: drawn.append(figure))
    figures.draw({**built[1], "label_sources": {"explicit": {"1": 3}, "mined": {}}}, tmp_path)
    (axes,) = drawn[1].axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["explicit"]


def test_the_builder_class_gives_the_same_rows(log, built, tmp_path, tiny_encoder):
    from wildreward.dataset_builder import WildFeedback

    chats, labels = log
    options = {"labeler_options": {"labels": str(labels)}, "test_fraction": 0.3, "mining_encoder": tiny_encoder}
    builder = WildFeedback(source=str(chats), labeler="file", options=options, cache_dir=str(tmp_path))
    builder.download_and_prepare()
    expected = [row for rows in rows_of(built[0])["data/train"] for row in rows]
    assert builder.as_dataset(split="train").to_list() == expected


def test_the_builder_class_builds_anew_when_a_row_might_change_and_only_then(log, tmp_path):
    from wildreward.dataset_builder import WildFeedback

    chats, labels = tmp_path / "chats.jsonl", tmp_path / "labels.jsonl"
    chats.write_bytes(log[0].read_bytes())
    given = [json.loads(line) for line in log[1].read_text().splitlines()]

    def built_from(level, **options):
        labels.write_text("".join(json.dumps(row | {"level": level}) + "\n" for row in given))
        options |= {"labeler_options": {"labels": str(labels)}, "mining_window": 0}
        builder = WildFeedback(source=str(chats), labeler="file", options=options, cache_dir=str(tmp_path))
        builder.download_and_prepare()
        return builder.folder, set(builder.as_dataset(split="train")["level"])

    first, levels = built_from(2)
    assert levels == {2} and built_from(5)[1] == {5}  # other labels in the file of the same name
    os.utime(chats)
    assert built_from(2, num_workers=2, ask_failed_again=True, max_failed=0.5) == (first, {2})
    assert built_from(2, seed=7)[0] != first
    chats.write_text(log[0].read_text().replace("gardens", "GARDENS"))
    assert built_from(2)[0] != first


def test_the_levels_of_a_build_are_labels_for_another(built, log, tmp_path, tiny_encoder):
    levels = tmp_path / "levels.parquet"
    levels.write_bytes((built[0] / "work" / "levels.parquet").read_bytes())
    build((log[0], levels), tmp_path / "out", mining_encoder=tiny_encoder)
    again, first = rows_of(tmp_path / "out"), rows_of(built[0])
    assert again["data/train"] == first["data/train"] and again["data/test"] == first["data/test"]


# Whoever does the work


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(shards, "MAX_ROWS", 16)


def test_the_number_of_workers_does_not_change_a_row(log, built, tmp_path, tiny_encoder):
    build(log, tmp_path / "w2", mining_encoder=tiny_encoder, num_workers=2)
    assert rows_of(tmp_path / "w2") == rows_of(built[0])
    for workers in (1, 4):
        build(log, tmp_path / f"off{workers}", **OFF, num_workers=workers)
    assert rows_of(tmp_path / "off4") == rows_of(tmp_path / "off1")


def test_the_size_of_parts_does_not_change_a_row(log, built, tmp_path, tiny_encoder, small_parts):
    build(log, tmp_path / "small", mining_encoder=tiny_encoder)
    assert len(list((tmp_path / "small" / "work" / "conversations").glob("*.parquet"))) == 8
    ours, theirs = rows_of(tmp_path / "small"), rows_of(built[0])
    assert ours == theirs


def test_datatrove_gives_the_same_rows(log, built, tmp_path, tiny_encoder, small_parts):
    pytest.importorskip("datatrove")
    from datatrove.executor import LocalPipelineExecutor

    from wildreward.dataset_builder.cluster import run_stages

    chats, labels = log
    arguments = {
        "source": str(chats),
        "output": tmp_path / "out",
        "labeler": "file",
        "labeler_options": {"labels": str(labels)},
        "test_fraction": 0.3,
        "mining_encoder": tiny_encoder,
    }
    run_stages(LocalPipelineExecutor, arguments, tasks=3, logging_dir=tmp_path / "logs", workers=1)
    assert rows_of(tmp_path / "out") == rows_of(built[0])
    assert (tmp_path / "out" / "build_report.json").exists()


def test_what_an_english_encoder_cannot_read_is_not_compared_but_counted(tmp_path, tiny_encoder):
    answer = "The answer has more than ten words, so that no filter drops the turn."
    chinese = ["请告诉我法国的首都在哪里好吗", answer, "那么它的人口大约有多少呢", answer, "谢谢，说得非常好"]
    english = ["Where is the capital of France?", answer, "And how many people live there?", answer, "Thanks a lot!"]
    roles = ["user", "assistant"] * 3
    rows, labels = [], []
    for name, texts in (("zh", chinese), ("en", english), ("mixed", [english[0], answer, *chinese[2:]])):
        messages = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
        rows.append({"id": name, "messages": messages})
        labels += [{"id": f"{name}_turn0", "level": 3}, {"id": f"{name}_turn1", "level": 5}]
    log = write_jsonl(tmp_path / "chats.jsonl", rows), write_jsonl(tmp_path / "labels.jsonl", labels)
    shutil.copytree(tiny_encoder, tmp_path / "all-MiniLM-tiny")
    for encoder, mined, left in ((tiny_encoder, 3, 0), (str(tmp_path / "all-MiniLM-tiny"), 1, 2)):
        output = tmp_path / f"out{mined}"
        report = build(log, output, mining_encoder=encoder, mining_threshold=-1.0, near_duplicates=0)
        assert (report["mined"], report["mining_pairs_not_compared"]) == (mined, left)


def test_the_order_of_files_decides_nothing_but_the_order_of_rows(log, tmp_path):
    lines = log[0].read_text().splitlines(keepends=True)
    lines += lines[10:20]
    for name, order in (("one", lines), ("two", lines[::-1])):
        for number in range(2):
            folder = tmp_path / name
            folder.mkdir(exist_ok=True)
            (folder / f"{number}.jsonl").write_text("".join(order[number::2]))
        build((folder, log[1]), tmp_path / f"out-{name}", **OFF)
    one, two = (
        sorted(
            (row for files in rows_of(tmp_path / f"out-{name}")["data/train"] for row in files), key=lambda r: r["id"]
        )
        for name in ("one", "two")
    )
    assert one == two and len(one) > 20


def test_the_split_does_not_move_when_data_is_added(log, tmp_path):
    more = write_chats(tmp_path / "more", 160)
    build(log, tmp_path / "few", **OFF)
    build(more, tmp_path / "many", **OFF)
    for split in ("train", "test"):
        few, many = (
            {row["id"] for files in rows_of(tmp_path / name)[f"data/{split}"] for row in files}
            for name in ("few", "many")
        )
        assert few <= many and len(few) < len(many)


# Duplicates and ids


def test_copies_are_kept_once_and_shared_ids_are_told_apart(tmp_path):
    rows = []
    for number in range(6):
        rows.append({"id": "same" if number < 3 else f"own{number}", "messages": chat(number)[0]})
    rows += [rows[0], {**rows[4], "id": "another"}]
    write_jsonl(tmp_path / "chats.jsonl", rows)
    report = build_dataset(str(tmp_path / "chats.jsonl"), tmp_path / "out", **OFF)
    assert report["records"] == 8 and report["conversations"] == 6
    assert report["conversations_dropped"] == {"duplicate_conversation": 2}
    ids = {row["id"] for row in pq.read_table(tmp_path / "out" / "work" / "levels.parquet").to_pylist()}
    assert len(ids) == 18 and "own3_turn0" in ids and "same_turn0" not in ids
    assert len({id_ for id_ in ids if id_.startswith("same-") and id_.endswith("_turn0")}) == 3


def test_copied_turns_of_different_chats_are_kept_once(tmp_path):
    words = " ".join(f"word{i}" for i in range(40))
    question = {"role": "user", "content": "Please write me something about the sea"}
    rows = [
        {
            "id": f"c{n}",
            "messages": [question, {"role": "assistant", "content": answer}, {"role": "user", "content": f}],
        }
        for n, (answer, f) in enumerate([(words, "Thanks!"), (words, "Thank you!"), (words + " end", "Great, thanks!")])
    ]
    write_jsonl(tmp_path / "chats.jsonl", rows)
    report = build_dataset(str(tmp_path / "chats.jsonl"), tmp_path / "out", **OFF)
    assert report["kept"] == 1 and report["dropped"] in ({"duplicate": 1, "near_duplicate": 1}, {"near_duplicate": 2})
    levels = pq.read_table(tmp_path / "out" / "work" / "levels.parquet").to_pylist()
    assert sorted(row["dropped"] or "" for row in levels)[0] == "" and sum(bool(row["dropped"]) for row in levels) == 2


# What is said


def test_a_source_whose_users_all_look_the_same_is_said(log, tmp_path, caplog):
    rows = [json.loads(line) for line in log[0].read_text().splitlines()]
    for name, share in (("half", 0.5), ("most", 0.6)):
        path, same = tmp_path / f"{name}.jsonl", int(share * len(rows))
        path.write_text(
            "".join(json.dumps(row | {"user": "ann" if n < same else f"u{n}"}) + "\n" for n, row in enumerate(rows))
        )
        caplog.clear()
        build((path, log[1]), tmp_path / f"out-{name}", **OFF)
        told = [record.message for record in caplog.records if "the same side of the split" in record.message]
        expected = f"{same} of {len(rows)} conversations with a user have the same one"
        assert len(told) == (name == "most") and all(expected in message for message in told)


def test_missing_labels_leave_turns_unlabelled_with_a_reason(log, tmp_path):
    labels = log[1].read_text().splitlines(keepends=True)
    (tmp_path / "labels.jsonl").write_text("".join(labels[:100]))
    report = build((log[0], tmp_path / "labels.jsonl"), tmp_path / "out", **OFF)
    assert report["labelled"] == 100 and report["unlabelled"] == {"not_in_labels_file": 260}
    assert report["dropped"]["unlabelled"] == 260


def test_limit_takes_the_first_conversations(log, tmp_path):
    report = build(log, tmp_path / "out", limit=7, **OFF)
    assert report["conversations"] == 7 and report["turns"] == 21


def test_a_dataset_without_test_rows_loads(log, tmp_path):
    import datasets

    report = build(log, tmp_path / "out", mining_window=0, limit=2)
    assert sum(report["splits"]["test"].values()) == 0 < report["kept"]
    for name in ("default", "unpaired_preference"):
        loaded = datasets.load_dataset(str(tmp_path / "out"), name, cache_dir=str(tmp_path / "cache"))
        assert {split: len(rows) for split, rows in loaded.items()} == {"train": report["kept"]}
    assert not list((tmp_path / "out" / "data").glob("test-*"))


def test_the_command_prints_what_came_out(log, tmp_path):
    got = run(log, tmp_path / "out", "--num_workers", "1", "--limit", "30")
    assert got.returncode == 0, got.stderr
    assert "turns with a follow-up" in got.stdout and got.stdout.strip().endswith(f"dataset: {tmp_path}/out")
