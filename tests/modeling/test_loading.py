"""A model is loaded whole or not at all: weights, settings and files that do not fit are one clear error each."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

from tests.tiny import chat, reward_model, save_backbone, tokenizer_for
from wildreward import RewardScorer, WildRewardConfig, WildRewardForSequenceClassification
from wildreward.common.errors import UserError
from wildreward.modeling_wildreward.loading import WeightsError
from wildreward.scoring import load_scorer
from wildreward.scoring.convert_command import ConvertConfig
from wildreward.scoring.convert_command import main as convert
from wildreward.scoring.export_command import ExportConfig
from wildreward.scoring.export_command import main as export

LAYER = "model.layers.1.mlp.up_proj.weight"
INDEX = "model.safetensors.index.json"


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    RewardScorer(reward_model(head="independent"), tokenizer_for("llama")).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(good, tmp_path):
    return shutil.copytree(good, tmp_path / "model")


def rewrite(folder, change):
    """Write the weights of a folder anew, after `change` was done to them."""
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def configure(folder, **settings):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | settings))


def split(folder):
    """Make two shards of the weights."""
    weights = load_file(folder / "model.safetensors")
    names, places = sorted(weights), {}
    for number, part in enumerate((names[:5], names[5:]), 1):
        file = f"model-{number:05}-of-00002.safetensors"
        save_file({name: weights[name] for name in part}, folder / file, metadata={"format": "pt"})
        places |= dict.fromkeys(part, file)
    (folder / "model.safetensors").unlink()
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))


WRONG_WEIGHTS = [
    (lambda weights: weights.pop("score.weight"), r"lacks weights for score\.weight$"),
    (lambda weights: weights.pop(LAYER), rf"lacks weights for {LAYER}$"),
    (lambda weights: weights.clear(), r"lacks weights for model\.embed_tokens\.weight, .* and 18 more$"),
    (lambda weights: weights.update(extra=torch.ones(1)), "has weights the model does not have: extra$"),
    (
        lambda weights: weights.update({"score.weight": torch.ones(2, 7)}),
        r"has score\.weight of shape \(2, 7\) instead of \(3, 32\)$",
    ),
]


@pytest.mark.parametrize(("change", "message"), WRONG_WEIGHTS)
def test_weights_that_do_not_fit_are_refused_whoever_loads(change, message, folder, tmp_path):
    rewrite(folder, change)
    for load in (WildRewardForSequenceClassification, AutoModelForSequenceClassification):
        with pytest.raises(WeightsError, match=message):
            load.from_pretrained(folder)
    whole = rf"^{folder} is not a WildReward model that can be loaded: the checkpoint {message}"
    for load in (RewardScorer.from_pretrained, load_scorer):
        with pytest.raises(UserError, match=whole):
            load(str(folder))
    with pytest.raises(UserError, match=message):
        export(ExportConfig(str(folder), str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


def test_the_loading_report_can_be_had_as_in_transformers(folder):
    model, report = WildRewardForSequenceClassification.from_pretrained(folder, output_loading_info=True)
    assert isinstance(model, WildRewardForSequenceClassification) and not report["missing_keys"]


def test_a_backbone_may_lack_its_pooler_alone(tmp_path):
    save_backbone("bert", tmp_path)
    rewrite(tmp_path, lambda weights: [weights.pop(f"pooler.dense.{kind}") for kind in ("weight", "bias")])
    rewrite(
        tmp_path, lambda weights: weights.update({"cls.predictions.bias": torch.ones(3)})
    )  # a language model's head
    WildRewardForSequenceClassification.from_backbone(tmp_path)
    rewrite(tmp_path, lambda weights: weights.pop("encoder.layer.1.output.dense.weight"))
    with pytest.raises(WeightsError, match=r"lacks weights for encoder\.layer\.1\.output\.dense\.weight$"):
        WildRewardForSequenceClassification.from_backbone(tmp_path)


@pytest.mark.parametrize(("change", "message"), WRONG_WEIGHTS[1:2] + WRONG_WEIGHTS[3:4])
def test_convert_refuses_weights_that_do_not_fit(change, message, folder, tmp_path):
    export(ExportConfig(str(folder), str(tmp_path / "plain")))
    rewrite(tmp_path / "plain", change)
    message = message.replace("for model.", "for ")  # as `AutoModel` names it
    with pytest.raises(UserError, match=message):
        convert(ConvertConfig(str(tmp_path / "plain"), str(tmp_path / "back")))
    assert not (tmp_path / "back").exists()


WRONG_SETTINGS = [
    ({"num_levels": "4"}, "num_levels is '4'; expected a whole number from 2 to 1000"),
    ({"num_levels": 1}, "num_levels is 1; expected a whole number from 2 to 1000"),
    ({"num_levels": 10**12, "temperatures": None}, "num_levels is 1000000000000; expected"),
    ({"num_levels": 4.0}, r"num_levels is 4\.0; expected a whole number"),
    ({"num_levels": True}, "num_levels is True; expected a whole number"),
    ({"max_length": -5}, "max_length is -5; expected a whole number of tokens, at least 1"),
    ({"max_length": "4096"}, "max_length is '4096'; expected a whole number"),
    ({"max_length": 0}, "max_length is 0; expected a whole number"),
    ({"max_length": None}, "max_length is None; expected a whole number"),
    ({"temperatures": [1.0]}, r"temperatures are \[1\.0\]; expected 3 positive finite numbers, one for each threshold"),
    ({"temperatures": [1.0, 0, 1.0]}, r"temperatures are \[1\.0, 0, 1\.0\]; expected 3 positive"),
    ({"temperatures": [1.0, float("nan"), 1.0]}, r"temperatures are \[1\.0, nan, 1\.0\]; expected 3 positive"),
    ({"temperatures": ["1", "1", "1"]}, r"temperatures are \['1', '1', '1'\]; expected 3 positive"),
    ({"temperatures": 3}, "temperatures are 3; expected 3 positive"),
    ({"pooling": "max"}, "pooling is 'max'; expected one of last, mean, cls, sections"),
    ({"pooling": None}, "pooling is None; expected one of last, mean, cls, sections"),
    ({"head": "softmax"}, "head is 'softmax'; expected one of coral, corn, independent"),
    ({"head": "coral"}, r"lacks weights for score\.bias and has score\.weight of shape \(3, 32\) instead of \(1, 32\)"),
    ({"response_mark": [1, "a"]}, r"response_mark is \[1, 'a'\]; expected a list of token ids"),
    ({"text_config": None}, "the configuration has no text_config; expected the backbone's configuration"),
    ({"text_config": "llama"}, "text_config is 'llama'; expected the backbone's configuration, an object"),
    ({"text_config": {}}, "Unrecognized model identifier: None"),
    ({"text_config": {"model_type": "llama", "hidden_size": "a"}}, "Field 'hidden_size' expected int, got str"),
]


@pytest.mark.parametrize(("settings", "message"), WRONG_SETTINGS)
def test_settings_that_do_not_fit_are_one_line(settings, message, folder):
    configure(folder, **settings)
    with pytest.raises(UserError, match=message) as caught:
        RewardScorer.from_pretrained(folder)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("settings", [{"num_levels": "4"}, {"max_length": 0}, {"temperatures": ["1", "1", "1"]}])
def test_a_configuration_made_by_hand_is_checked_too(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        WildRewardConfig(**settings)


def cut(file):
    file.write_bytes(file.read_bytes()[:-100])


WRONG_FILES = [
    (lambda folder: cut(folder / "model.safetensors"), r"/model\.safetensors is damaged or cut off \(.*not fully"),
    (lambda folder: (folder / "model.safetensors").write_bytes(b""), r"/model\.safetensors is damaged or cut off"),
    (
        lambda folder: (split(folder), cut(folder / "model-00002-of-00002.safetensors")),
        r"/model-00002-of-00002\.safetensors is damaged or cut off",
    ),
    (
        lambda folder: (split(folder), (folder / "model-00002-of-00002.safetensors").unlink()),
        rf"/model-00002-of-00002\.safetensors is missing, which {INDEX} names$",
    ),
    (lambda folder: (split(folder), (folder / INDEX).write_text("{")), rf"/{INDEX} is not valid JSON"),
    (
        lambda folder: (split(folder), (folder / INDEX).write_text('{"weight_map": {"score.weight": "../x"}}')),
        rf"/{INDEX} has no weight_map that gives each weight the name of a file beside it",
    ),
    (lambda folder: (folder / "config.json").write_text("{nope"), r"/config\.json is not valid JSON"),
    (lambda folder: (folder / "config.json").write_text("[]"), r"/config\.json holds a list of 0; expected a JSON obj"),
    (lambda folder: (folder / "tokenizer.json").write_text("{"), r"/tokenizer\.json is not valid JSON"),
    (lambda folder: (folder / "tokenizer_config.json").write_text("{"), r"/tokenizer_config\.json is not valid JSON"),
]


@pytest.mark.parametrize(("change", "message"), WRONG_FILES)
def test_a_damaged_file_is_named_by_every_door(change, message, folder, tmp_path):
    change(folder)
    for load in (
        RewardScorer.from_pretrained,
        load_scorer,
        lambda name: convert(ConvertConfig(name, str(tmp_path / "back"))),
    ):
        with pytest.raises(UserError, match=message) as caught:
            load(str(folder))
        assert "\n" not in str(caught.value)


def test_shards_load_like_one_file(folder):
    expected = RewardScorer.from_pretrained(folder).score([chat("the cat", "sat")])
    split(folder)
    assert RewardScorer.from_pretrained(folder).score([chat("the cat", "sat")]) == expected
