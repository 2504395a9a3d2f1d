"""`train-labeler`: from labels and chats to a model that `build-dataset` takes; splits, calibration and thresholds."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForSequenceClassification

from wildreward.commands import execute
from wildreward.common.errors import UserError
from wildreward.dataset_builder.build import build_dataset
from wildreward.dataset_builder.labelers import feedback_model
from wildreward.dataset_builder.labelers.base import Request
from wildreward.dataset_builder.labelers.feedback_model import LEVELS, load, merged
from wildreward.model_card.validate import validate_folder
from wildreward.training.labeler_data import Example, read_readings, shares_of, split
from wildreward.training.labeler_training import calibrate, choose_thresholds, fold_in, trade_off

RECIPE = ["--num-layers", "1", "--adapter-rank", "96", "--batch-size", "16", "--learning-rate", "3e-4", "--seed", "1"]
SAID = {2: "no, that is wrong", 5: "thanks, perfect", 3: "what about the next one?"}


def example(owner: str, level: int, name: str = "t") -> Example:
    return Example(Request(name, name, "feedback", (), "q", "a", SAID.get(level, "")), shares_of([level]), owner)


@pytest.fixture(scope="module")
def labelled_log(tmp_path_factory):
    """900 chats of two turns by 300 users, and a level for the first turn of each."""
    folder = tmp_path_factory.mktemp("labelled")
    rng = np.random.default_rng(0)
    with open(folder / "log.jsonl", "w") as log, open(folder / "labels.jsonl", "w") as labels:
        for number in range(900):
            level = (2, 5, 3, 3)[rng.integers(4)]
            contents = [
                f"tell me fact {number}",
                f"fact {number} is {number * 7}",
                f"{SAID[level]} {number}",
                "it is so",
            ]
            roles = ("user", "assistant", "user", "assistant")
            messages = [{"role": r, "content": c} for r, c in zip(roles, contents, strict=True)]
            log.write(json.dumps({"id": f"c{number}", "user_id": f"u{number % 300}", "messages": messages}) + "\n")
            labels.write(json.dumps({"id": f"c{number}_turn0", "level": level}) + "\n")
    return folder


def labels_of(folder):
    return [json.loads(line) for line in (folder / "labels.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def trained(labelled_log, minilm, tmp_path_factory):
    """One layer of MiniLM, trained on these labels, and its small form."""
    pytest.importorskip("sklearn")
    folder = tmp_path_factory.mktemp("trained") / "model"
    words = ["--labels", labelled_log / "labels.jsonl", "--source", labelled_log / "log.jsonl", "--output", folder]
    execute("train-labeler", [*map(str, words), *RECIPE])
    return folder


def test_a_model_of_ones_own_is_an_ordinary_one_and_builds_a_dataset(trained, labelled_log, tmp_path, capsys):
    model = AutoModelForSequenceClassification.from_pretrained(trained)
    assert tuple(model.config.id2label.values()) == LEVELS
    assert model.dtype == torch.float32  # also where the hardware classifies in bfloat16
    results = json.loads((trained / "labeler_results.json").read_text())
    assert sum(results["turns"].values()) == 900 and results["turns"]["test"] > 40
    assert results["trade_off"][0]["negative_recall"] > 0.9 and results["trade_off"][0]["positive_precision"] > 0.9
    assert not (trained / "work").exists()
    selection = validate_folder(trained)  # as `push` does
    assert {"model.safetensors", "gate.safetensors", "labeler_results.json"} <= set(selection.files)
    card = (trained / "README.md").read_text("utf-8")
    assert f"| default | {results['trade_off'][0]['negative_precision']} |" in card and "all-MiniLM-L6-v2" in card
    options = {"labeler": "classifier", "labeler_options": {"model": str(trained)}, "mining_window": 0}
    report = build_dataset(
        str(labelled_log / "log.jsonl"), tmp_path / "out", near_duplicates=0, personal_data="keep", **options
    )
    told = [row["level"] for row in labels_of(labelled_log)]
    for level in (2, 5):
        assert abs(report["levels"][str(level)] - told.count(level)) < 0.1 * told.count(level)
    assert report["settings"]["labeler.model"] == "model"
    assert report["labeler"]["trade_off"] == results["trade_off"]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_model(trained, labelled_log, tmp_path):
    words = ["--labels", labelled_log / "labels.jsonl", "--source", labelled_log / "log.jsonl"]
    execute("train-labeler", [*map(str, [*words, "--output", tmp_path / "again"]), *RECIPE])
    first, again = (load(str(folder)) for folder in (trained, tmp_path / "again"))
    for name, tensor in first.model.state_dict().items():
        assert torch.equal(tensor, again.model.state_dict()[name])
    assert np.array_equal(first.gate.weights, again.gate.weights) and first.gate.threshold == again.gate.threshold


def test_the_small_form_is_nearly_the_same_model(trained, monkeypatch):
    monkeypatch.setattr(feedback_model, "PACKAGED", trained / "adapters")
    asked = [Request("k", "t", "feedback", (), "tell me", "it is so", text) for text in SAID.values()]
    found, expected = (model.logits(asked) for model in (feedback_model.load_packaged(), load(str(trained))))
    assert np.allclose(found, expected, atol=0.3) and np.abs(expected).max() > 2
    sizes = [path.stat().st_size for path in (trained / "adapters").iterdir()]
    assert sum(sizes) < 4_000_000 < (trained / "model.safetensors").stat().st_size


def test_users_to_test_on_are_not_trained_on(labelled_log, tiny_encoder, tmp_path, capsys):
    held = labels_of(labelled_log)
    held = [row for row in held if int(row["id"][1:].split("_")[0]) % 300 < 60]  # users 0 to 59, three chats each
    test = tmp_path / "held.jsonl"
    test.write_text("".join(json.dumps(row) + "\n" for row in held))
    words = ["--labels", labelled_log / "labels.jsonl", "--source", labelled_log / "log.jsonl", "--test-labels", test]
    words += ["--output", tmp_path / "model", "--base-model", tiny_encoder, "--epochs", "0.1"]
    execute("train-labeler", list(map(str, words)))
    turns = json.loads((tmp_path / "model" / "labeler_results.json").read_text())["turns"]
    assert turns["test"] == 180 and turns["train"] + turns["validation"] == 720


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 100))
def test_a_user_is_in_one_part_of_the_split(seed):
    rows = [example(f"u{number % 150}", (2, 3, 5)[number % 3], str(number)) for number in range(1_500)]
    try:
        parts = split(rows, set(), seed)
    except UserError as error:
        assert "expected at least 10 in each of train, validation and test" in str(error)
        return
    owners = [{row.owner for row in part} for part in parts.values()]
    assert sum(map(len, parts.values())) == 1_500 and sum(map(len, owners)) == 150


def test_too_few_labels_and_rows_that_do_not_fit_are_one_line(tmp_path):
    with pytest.raises(
        UserError, match=r"\d+ positive follow-ups are in the train part .* label more turns, of more users"
    ):
        split([example(f"u{number}", 2) for number in range(12)], set(), 0)
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"id": "a_turn0", "level": 2}\n{"id": "b_turn0", "level": 9}\n')
    with pytest.raises(UserError, match=r"bad\.jsonl, line 2: an object with id .*; expected id, a text, and level"):
        read_readings(str(bad))


def test_readings_of_several_readers_are_shared_out(tmp_path):
    file = tmp_path / "labels.jsonl"
    file.write_text('{"id": "a", "level": 2}\n{"id": "a", "level": 3}\n{"id": "b", "level": 5}\n')
    readings = read_readings(str(file))
    assert readings == {"a": [2, 3], "b": [5]}
    assert shares_of(readings["a"]) == (0, 0.5, 0.5, 0, 0)


def test_calibration_finds_the_temperature_and_bias_that_were_put_in():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(40_000, 5)) * 2
    bias = np.asarray([-1.0, 0.5, 0.0, 0.25, 0.25])
    true = logits / 2.5 + bias
    chances = np.exp(true) / np.exp(true).sum(1, keepdims=True)
    drawn = (chances.cumsum(1) > rng.random((len(logits), 1))).argmax(1)
    temperature, found = calibrate(logits.astype(np.float32), np.eye(5)[drawn])
    assert temperature == pytest.approx(2.5, rel=0.03)
    assert found - found.mean() == pytest.approx(bias - bias.mean(), abs=0.06)


def test_a_calibration_folded_in_is_what_the_softmax_gives(trained):
    model = AutoModelForSequenceClassification.from_pretrained(trained).eval()
    inputs = {"input_ids": torch.tensor([[2, 40, 50, 3]])}
    with torch.no_grad():
        before = model(**inputs).logits
        fold_in(model, 2.0, np.asarray([1.0, 0, 0, 0, -1.0]))
        assert torch.allclose(model(**inputs).logits, before / 2 + torch.tensor([[1.0, 0, 0, 0, -1.0]]), atol=1e-5)


def test_adapters_add_their_product_and_replace_what_has_none():
    base = {"a.weight": torch.ones(2, 3), "a.bias": torch.zeros(2), "b.weight": torch.ones(2, 2)}
    up, down = torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0, 0.0, -1.0]])
    found = merged(base, {"a.weight.A": down, "a.weight.B": up, "a.bias": torch.tensor([5.0, 6.0]), "c": torch.ones(1)})
    assert torch.equal(found["a.weight"], torch.tensor([[4.0, 1.0, 0.0], [7.0, 1.0, -1.0]]))
    assert torch.equal(found["a.bias"], torch.tensor([5.0, 6.0])) and torch.equal(found["b.weight"], base["b.weight"])
    assert "c" in found


def test_thresholds_are_the_lowest_that_are_precise_enough():
    negative = np.asarray([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    levels = np.asarray([2, 2, 1, 3, 2, 3])
    probabilities = np.stack([negative / 2, negative / 2, 1 - negative, negative * 0, negative * 0], axis=1)
    # sorted by probability, precision is 1, 1, 1, 0.75, 0.8, 0.67: 0.9 is reached last at 0.7
    assert choose_thresholds(probabilities, levels) == {"negative": 0.7, "positive": 0.9}
    default, *others = trade_off(probabilities, levels, {"negative": 0.7, "positive": 0.9})
    assert (default["negative_precision"], default["negative_recall"]) == (1.0, 0.75)
    assert (default["positive_precision"], default["positive_recall"]) == (None, None)
    at_half = next(row for row in others if row["min_confidence"] == "0.5")
    assert (at_half["negative_precision"], at_half["negative_recall"]) == (0.8, 1.0)
