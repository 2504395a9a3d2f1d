"""Export and convert: scores equal before and after, and what cannot be expressed is refused with the reason."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tests.tiny import chat, reward_model, tokenizer_for
from wildreward import RewardScorer
from wildreward.convert_command import ConvertConfig, main
from wildreward.errors import UserError
from wildreward.export_command import ExportConfig
from wildreward.export_command import main as export_main
from wildreward.modeling_wildreward.interchange import convert_checkpoint, export_model

CONVERSATIONS = [chat("the cat sat", "right"), chat("again please", "the mat was wrong " * 4, "hi", "the user")]


def exported(kind, tmp_path, pad_token=None):
    model, tokenizer = reward_model(kind, head="independent"), tokenizer_for(kind)
    model.config.temperatures = [1.5, 0.7, 2.0]
    if pad_token:
        tokenizer.pad_token = pad_token
        model.config.pad_token_id = tokenizer.pad_token_id
    scorer = RewardScorer(model, tokenizer)
    for part in export_model(model, tokenizer):
        part.save_pretrained(tmp_path / "plain")
    return scorer, tmp_path / "plain"


@pytest.mark.parametrize(
    ("kind", "pad_token"), [("llama", None), ("qwen3", None), ("gemma3", None), ("llama", "<|im_end|>")]
)
def test_scores_survive_export_and_the_way_back(kind, pad_token, tmp_path):
    scorer, folder = exported(kind, tmp_path, pad_token)
    expected = scorer.score(CONVERSATIONS)
    assert abs(expected[0] - expected[1]) > 0.02
    plain = AutoModelForSequenceClassification.from_pretrained(folder)
    assert "wildreward" not in type(plain).__module__ and plain.config.num_labels == 3
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = [tokenizer.apply_chat_template(messages, tokenize=False) for messages in CONVERSATIONS]
    batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    with torch.no_grad():
        scores = 1 + plain(**batch).logits.sigmoid().sum(1)
    assert scores.tolist() == pytest.approx(expected, abs=1e-4)
    back = RewardScorer(*convert_checkpoint(folder))
    assert back.score(CONVERSATIONS) == pytest.approx(expected, abs=1e-4)


def test_cross_encoder_loads_the_export(tmp_path):
    from sentence_transformers import CrossEncoder

    scorer, folder = exported("llama", tmp_path)
    encoder = CrossEncoder(str(folder), activation_fn=torch.nn.Sigmoid())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    features = tokenizer(
        [tokenizer.apply_chat_template(messages, tokenize=False) for messages in CONVERSATIONS],
        return_tensors="pt",
        padding=True,
        add_special_tokens=False,
    )
    with torch.no_grad():
        scores = 1 + encoder.model(**features).logits.sigmoid().sum(1)
    assert scores.tolist() == pytest.approx(scorer.score(CONVERSATIONS), abs=1e-4)


@pytest.mark.parametrize(
    ("kind", "head", "reason"),
    [
        ("llama", "coral", "the coral head cannot be exported"),
        ("llama", "corn", "the corn head cannot be exported"),
        ("bert", "independent", "bert model with mean pooling cannot be exported"),
        ("bert", "coral", "coral head cannot be exported.*; and a bert model with mean pooling cannot be exported"),
    ],
)
def test_export_refuses_what_a_plain_classifier_cannot_express(kind, head, reason):
    with pytest.raises(ValueError, match=reason):
        export_model(reward_model(kind, head=head), tokenizer_for(kind))


def test_convert_needs_the_text_the_checkpoint_was_trained_on(tmp_path):
    scorer, folder = exported("llama", tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = "{{ messages[-1].content }}"
    tokenizer.save_pretrained(folder)
    with pytest.raises(ValueError, match="was trained on is not known"):
        convert_checkpoint(folder)
    own = RewardScorer(
        *convert_checkpoint(folder, template="Q: {{ messages[-2].content }} A: {{ messages[-1].content }}")
    )
    assert own.score(CONVERSATIONS) != pytest.approx(scorer.score(CONVERSATIONS), abs=1e-3)
    default = RewardScorer(*convert_checkpoint(folder, template="default"))
    assert default.score(CONVERSATIONS) == pytest.approx(scorer.score(CONVERSATIONS), abs=1e-4)


def test_convert_refuses_other_heads(tmp_path):
    _, folder = exported("llama", tmp_path)
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {"score.bias": torch.ones(3)}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="`score` layer with a bias"):
        convert_checkpoint(folder)
    save_file(weights | {"score.weight": weights["score.weight"][:1]}, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"has 1 label: a pairwise \(Bradley-Terry\)"):
        convert_checkpoint(folder)
    del weights["score.weight"]
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(ValueError, match="head layers none"):
        convert_checkpoint(folder)


def test_convert_refuses_a_length_without_room(tmp_path):
    with pytest.raises(UserError, match="--max_length is 0; expected at least 1"):
        main(ConvertConfig(checkpoint=str(tmp_path), output=str(tmp_path / "out"), max_length=0))
    _, folder = exported("llama", tmp_path)
    least = len(tokenizer_for("llama").apply_chat_template(chat("a", "b"))["input_ids"])
    config = ConvertConfig(checkpoint=str(folder), output=str(tmp_path / "out"), max_length=least - 1)
    with pytest.raises(UserError, match=f"longest input is {least - 1} tokens .*; expected at least {least}, what the"):
        main(config)
    assert not (tmp_path / "out").exists()
    config.max_length = least
    main(config)
    assert RewardScorer.from_pretrained(tmp_path / "out").model.config.max_length == least


def test_convert_refuses_a_template_that_cannot_render_a_question_with_its_answer(tmp_path):
    _, folder = exported("llama", tmp_path)
    (tmp_path / "own.jinja").write_text("{{ raise_exception('no system message') }}")
    with pytest.raises(UserError, match="cannot render a message of the user and an answer: no system message"):
        main(ConvertConfig(str(folder), str(tmp_path / "out"), template=str(tmp_path / "own.jinja")))


def test_nothing_is_written_over(tmp_path):
    """Neither the input itself nor a folder of somebody else; found out before the input, which is none here, is read."""
    (tmp_path / "config.json").write_text("{}")
    for command in (
        lambda: export_main(ExportConfig(model=str(tmp_path), output=str(tmp_path))),
        lambda: main(ConvertConfig(checkpoint=str(tmp_path), output=str(tmp_path))),
    ):
        with pytest.raises(
            UserError, match=r"is not empty \(it holds config.json\); expected a new or an empty folder"
        ):
            command()
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_the_commands_undo_each_other(tmp_path):
    scorer = RewardScorer(reward_model("llama", head="independent"), tokenizer_for("llama"))
    scorer.save_pretrained(tmp_path / "rm")
    export_main(ExportConfig(model=str(tmp_path / "rm"), output=str(tmp_path / "plain")))
    main(ConvertConfig(checkpoint=str(tmp_path / "plain"), output=str(tmp_path / "back")))
    back = RewardScorer.from_pretrained(tmp_path / "back")
    assert back.score(CONVERSATIONS) == pytest.approx(scorer.score(CONVERSATIONS), abs=1e-4)


def test_a_mistyped_checkpoint_is_said_not_to_be_here(tmp_path):
    with pytest.raises(UserError, match=r"cannot convert \./runs/nope: there is no file or folder '\./runs/nope' here"):
        main(ConvertConfig(checkpoint="./runs/nope", output=str(tmp_path / "out")))
