"""Export and convert: scores equal before and after, and what cannot be expressed is refused with the reason."""

import json
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tests.tiny import chat, decoder_tokenizer, reward_model, save_backbone, tokenizer_for
from tests.training.reward_tiny import toy_rows
from wildreward import RewardScorer
from wildreward.commands import parse
from wildreward.common.errors import UserError
from wildreward.modeling_wildreward.interchange import convert_checkpoint, export_model
from wildreward.modeling_wildreward.ordinal import expected_level
from wildreward.modeling_wildreward.template import install_template, is_reward_template
from wildreward.scoring.convert_command import ConvertConfig, main
from wildreward.scoring.export_command import ExportConfig
from wildreward.scoring.export_command import main as export_main
from wildreward.training.reward_command import CONFIGS
from wildreward.training.reward_command import main as train_main

RECIPES = Path(__file__).parents[2] / "recipes"
CONVERSATIONS = [chat("the cat sat", "right"), chat("again please", "the mat was wrong " * 4, "hi", "the user")]


def exported(kind, tmp_path, pad_token=None, head="independent"):
    model, tokenizer = reward_model(kind, head=head), tokenizer_for(kind)
    model.config.temperatures = [1.5, 0.7, 2.0]
    if pad_token:
        tokenizer.pad_token = pad_token
        model.config.pad_token_id = tokenizer.pad_token_id
    scorer = RewardScorer(model, tokenizer)
    for part in export_model(model, tokenizer):
        part.save_pretrained(tmp_path / "plain")
    return scorer, tmp_path / "plain"


def logits_of(folder):
    """What any transformers program gets of an export: the class that its configuration names, the text that its tokenizer
    renders, and the tokens that it makes of a text."""
    plain = AutoModelForSequenceClassification.from_pretrained(folder)
    assert "wildreward" not in type(plain).__module__
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = [tokenizer.apply_chat_template(messages, tokenize=False) for messages in CONVERSATIONS]
    with torch.no_grad():
        return plain(**tokenizer(texts, return_tensors="pt", padding=True)).logits


@pytest.mark.parametrize(
    ("kind", "pad_token"), [("llama", None), ("qwen3", None), ("gemma3", None), ("llama", "<|im_end|>")]
)
@pytest.mark.parametrize("head", ["coral", "independent"])
def test_scores_survive_export_and_the_way_back(kind, pad_token, head, tmp_path):
    scorer, folder = exported(kind, tmp_path, pad_token, head)
    expected = scorer.score(CONVERSATIONS)
    assert abs(expected[0] - expected[1]) > 0.02
    logits, told = logits_of(folder), json.loads((folder / "config.json").read_text())
    assert logits.shape == (2, 1 if head == "coral" else 3)
    biases, temperatures = (torch.tensor(told[f"wildreward_{name}"]) for name in ("thresholds", "temperatures"))
    scores = 1 + ((logits + biases) / temperatures).sigmoid().cummin(1).values.sum(1)
    if head == "independent":
        assert (biases.tolist(), temperatures.tolist()) == ([0.0] * 3, [1.0] * 3)
        scores = 1 + logits.sigmoid().sum(1)
    assert scores.tolist() == pytest.approx(expected, abs=1e-4)
    back = RewardScorer(*convert_checkpoint(folder))
    assert back.score(CONVERSATIONS) == pytest.approx(expected, abs=1e-4)
    assert (back.model.config.head, back.model.config.max_length) == (head, scorer.model.config.max_length)
    assert not [name for name in back.model.config.text_config.to_dict() if name.startswith("wildreward")]


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
    ("kind", "head", "form", "reason"),
    [
        ("llama", "corn", None, "the corn head cannot be exported: its level probabilities are products"),
        ("llama", "coral", "thresholds", "the coral head has no thresholds form: .* biases .*; use scalar"),
        ("llama", "independent", "scalar", "the independent head has no scalar form: .*; use thresholds"),
        ("llama", "coral", "scaler", "form is 'scaler'; expected scalar or thresholds"),
        ("bert", "independent", None, "bert model with mean pooling cannot be exported"),
        ("bert", "corn", None, "corn head cannot be exported.*; and a bert model with mean pooling cannot be exported"),
    ],
)
def test_export_refuses_what_a_plain_classifier_cannot_express(kind, head, form, reason):
    with pytest.raises(ValueError, match=reason):
        export_model(reward_model(kind, head=head), tokenizer_for(kind), form)


def test_export_refuses_before_the_weights_are_read(tmp_path):
    RewardScorer(reward_model("bert"), tokenizer_for("bert")).save_pretrained(tmp_path / "rm")
    (tmp_path / "rm" / "model.safetensors").unlink()
    with pytest.raises(UserError, match="bert model with mean pooling cannot be exported"):
        export_main(ExportConfig(model=str(tmp_path / "rm"), output=str(tmp_path / "plain")))
    assert not (tmp_path / "plain").exists()


def test_an_engine_that_adds_special_tokens_reads_the_same(tmp_path):
    """As Llama's and Gemma's tokenizers do to every text, though the template has written the token already."""
    tokenizer = decoder_tokenizer()
    tokenizer.add_bos_token = True
    install_template(tokenizer)
    model = reward_model("llama")
    scorer = RewardScorer(model, tokenizer)
    expected = scorer.score(CONVERSATIONS)
    for part in export_model(model, tokenizer):
        part.save_pretrained(tmp_path / "plain")
    ids = AutoTokenizer.from_pretrained(tmp_path / "plain")(
        tokenizer.apply_chat_template(CONVERSATIONS[0], tokenize=False)
    )
    assert ids["input_ids"] == scorer.encode(CONVERSATIONS[:1])[0]
    assert ids["input_ids"][:2] != [tokenizer.bos_token_id] * 2
    back = RewardScorer(*convert_checkpoint(tmp_path / "plain"))
    assert back.score(CONVERSATIONS) == pytest.approx(expected, abs=1e-4)
    assert is_reward_template(back.tokenizer)  # rendered here, not in a process of its own


def test_weights_of_less_precision_keep_the_head(tmp_path):
    """The head is float32 whatever the backbone is, as engines compute it: rounded, it would move scores."""
    model, tokenizer = reward_model("llama").to(torch.bfloat16), tokenizer_for("llama")
    weight = torch.nn.init.normal_(torch.empty(1, 32), std=0.2)
    model.score.weight = torch.nn.Parameter(weight)
    for part in export_model(model, tokenizer):
        part.save_pretrained(tmp_path)
    assert load_file(tmp_path / "model.safetensors")["score.weight"].equal(weight)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert plain.dtype is torch.bfloat16
    back, _ = convert_checkpoint(tmp_path)
    assert back.score.weight.equal(weight) and back.model.dtype is torch.bfloat16


@pytest.mark.parametrize("changed", [{"wildreward_thresholds": [0.1, 0.5, 0.2]}, {"wildreward_thresholds": None}])
def test_convert_refuses_thresholds_that_are_none(changed, tmp_path):
    _, folder = exported("llama", tmp_path, head="coral")
    told = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(told | changed))
    with pytest.raises(
        ValueError, match=r"wildreward_form 'scalar' and wildreward_thresholds .*; expected scalar with"
    ):
        convert_checkpoint(folder)


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
    told = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({k: v for k, v in told.items() if not k.startswith("wildreward")}))
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


@pytest.mark.parametrize("head", ["coral", "independent"])
def test_the_commands_undo_each_other(head, tmp_path):
    scorer = RewardScorer(reward_model("llama", head=head), tokenizer_for("llama"))
    scorer.save_pretrained(tmp_path / "rm")
    export_main(ExportConfig(model=str(tmp_path / "rm"), output=str(tmp_path / "plain")))
    main(ConvertConfig(checkpoint=str(tmp_path / "plain"), output=str(tmp_path / "back")))
    back = RewardScorer.from_pretrained(tmp_path / "back")
    assert back.score(CONVERSATIONS) == pytest.approx(scorer.score(CONVERSATIONS), abs=1e-4)


def test_a_mistyped_checkpoint_is_said_not_to_be_here(tmp_path):
    with pytest.raises(UserError, match=r"cannot convert \./runs/nope: there is no file or folder '\./runs/nope' here"):
        main(ConvertConfig(checkpoint="./runs/nope", output=str(tmp_path / "out")))


@pytest.mark.parametrize("recipe", ["qwen3-4b", "lora-24gb"])
def test_what_the_recipes_for_decoders_train_is_exported(recipe, tmp_path):
    """With the recipes' own head, adapters and precision; only the sizes are those of a test."""
    save_backbone("qwen3", tmp_path / "base")
    Dataset.from_list(toy_rows(64)).to_parquet(tmp_path / "rows.parquet")
    flags = {
        "config": RECIPES / f"{recipe}.yaml",
        "dataset": tmp_path / "rows.parquet",
        "base_model": tmp_path / "base",
    }
    flags |= {
        "output_dir": tmp_path / "rm",
        "rows_per_step": 16,
        "max_steps": 2,
        "use_cpu": True,
        "dataset_num_proc": 1,
    }
    flags |= {"dataloader_num_workers": 0, "report_to": "none", "validation_share": 0.25}
    train_main(
        *parse("train-reward", CONFIGS, [word for key, value in flags.items() for word in (f"--{key}", str(value))])
    )
    export_main(ExportConfig(model=str(tmp_path / "rm"), output=str(tmp_path / "plain")))
    scorer = RewardScorer.from_pretrained(tmp_path / "rm", dtype=torch.float32)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "plain", dtype=torch.float32)
    told = plain.config
    assert (told.architectures, told.wildreward_form) == (["Qwen3ForSequenceClassification"], "scalar")
    ids = torch.tensor([scorer.encode(CONVERSATIONS[:1])[0]])
    with torch.no_grad():
        logits = plain(input_ids=ids).logits + torch.tensor(told.wildreward_thresholds)
    score = expected_level(logits, "coral", told.wildreward_temperatures)
    assert score.tolist() == pytest.approx(scorer.score(CONVERSATIONS[:1]), abs=1e-4)
