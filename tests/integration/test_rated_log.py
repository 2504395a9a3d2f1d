"""A log of which users rated a fifth of the answers, from its first command to the last: build, load, train, evaluate."""

import json

import pytest
from datasets import load_dataset

from tests.dataset_builder.chats import chat, write_jsonl
from tests.tiny import save_backbone
from wildreward.commands import execute


def log(folder, count=60):
    rows, labels = [], []
    for number in range(count):
        messages, levels = chat(number, 4)
        messages.append(
            {"role": "assistant", "content": f"And that was the last answer of chat {number}, in enough words."}
        )
        messages[-1 if number % 2 else 1]["feedback"] = {"thumbs": ("up", "down")[number // 2 % 2], "comment": "…"}
        rows.append({"id": f"chat{number}", "user": f"user{number % 20}", "messages": messages})
        labels += [{"id": f"chat{number}_turn{turn}", "level": level} for turn, level in enumerate(levels)]
    return write_jsonl(folder / "chats.jsonl", rows), write_jsonl(folder / "labels.jsonl", labels)


@pytest.mark.timeout(400)
def test_a_rated_log_builds_trains_and_evaluates(tmp_path):
    chats, labels = log(tmp_path)
    data, model, results = tmp_path / "data", tmp_path / "model", tmp_path / "results"
    command = [
        "--source",
        str(chats),
        "--output",
        str(data),
        "--labeler",
        "file",
        "--labels",
        str(labels),
    ]
    execute(
        "build-dataset",
        [
            *command,
            "--mining-window",
            "0",
            "--test-fraction",
            "0.3",
            "--near-duplicates",
            "0",
            "--min-query-words",
            "1",
            "--num-workers",
            "1",
        ],
    )
    report = json.loads((data / "build_report.json").read_text())
    assert sum(report["ratings"]["turns"].values()) == 60 and report["turns"] == 60 * 4 + 30
    rows = load_dataset(str(data))
    rated = [row for split in rows.values() for row in split if row["label_source"] == "rating"]
    assert len(rated) == 60 and sum(not row["user_feedback"]["content"] for row in rated) == 30
    assert len(load_dataset(str(data), "unpaired_preference")["train"]) == len(rows["train"])
    card = (data / "README.md").read_text()
    for source, levels in report["label_sources"].items():
        assert f"| {source} | {' | '.join(str(levels.get(level, 0)) for level in '1245')} |" in card
    assert set(report["label_sources"]) == {"explicit", "rating"} and "by the `file` labeler" in card

    save_backbone("bert", tmp_path / "base")
    command = [
        "--dataset",
        str(data),
        "--base-model",
        str(tmp_path / "base"),
        "--output-dir",
        str(model),
    ]
    execute(
        "train-reward",
        [
            *command,
            "--max-steps",
            "2",
            "--per-device-train-batch-size",
            "8",
            "--use-cpu",
            "True",
            "--disable-tqdm",
            "True",
        ],
    )
    execute("evaluate", ["--model", str(model), "--dataset", str(data), "--output", str(results), "--bootstrap", "20"])
    found = json.loads((results / "results.json").read_text())["datasets"]
    assert [each["n"] for each in found.values()] == [len(rows["test"])]
