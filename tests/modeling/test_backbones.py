"""Backbones that are not plain text models of transformers: with code of their own, with eyes, without a padding token."""

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    CodeGenConfig,
    Gemma3Config,
    LlamaModel,
    Qwen2_5_VLConfig,
    Qwen3VLConfig,
)

from tests.tiny import SHAPE, backbone_config, chat, decoder_tokenizer
from wildreward import RewardFunction, RewardScorer, WildRewardForSequenceClassification
from wildreward.common.errors import UserError
from wildreward.modeling_wildreward.template import install_template

CHATS = [chat("the cat", "sat on a mat"), chat("and user", "wrong", "an answer", "right again please")]
CONFIGURATION = """
from transformers import LlamaConfig

class TinyConfig(LlamaConfig):
    model_type = "tiny_own"
"""
LAYERS = "def twice(hidden):\n    return 2 * hidden\n"
MODEL = """
from transformers import LlamaModel
from .{layers} import twice
{imports}

class TinyModel(LlamaModel):
{config_class}
    def forward(self, *args, **kwargs):
        output = super().forward(*args, **kwargs)
        output.last_hidden_state = twice(output.last_hidden_state)
        return output
"""


def own_backbone(folder, own_config=True, layers="tiny_layers"):
    """A Llama whose code lies in its folder, and doubles its hidden states; its configuration is Llama's or its own."""
    torch.manual_seed(0)
    model = LlamaModel(backbone_config("llama"))
    for weights in model.parameters():
        if weights.dim() == 2:
            weights.data.normal_(std=0.15)
    model.save_pretrained(folder)
    decoder_tokenizer().save_pretrained(folder)
    lines = ("from .configuration_tiny import TinyConfig", "    config_class = TinyConfig") if own_config else ("", "")
    (folder / "modeling_tiny.py").write_text(MODEL.format(layers=layers, imports=lines[0], config_class=lines[1]))
    (folder / f"{layers}.py").write_text(LAYERS)
    settings = json.loads((folder / "config.json").read_text()) | {"auto_map": {"AutoModel": "modeling_tiny.TinyModel"}}
    if own_config:
        (folder / "configuration_tiny.py").write_text(CONFIGURATION)
        settings["model_type"] = "tiny_own"
        settings["auto_map"]["AutoConfig"] = "configuration_tiny.TinyConfig"
    (folder / "config.json").write_text(json.dumps(settings))
    return str(folder)


def scorer_of(folder, **options):
    model = WildRewardForSequenceClassification.from_backbone(str(folder), **options)
    return RewardScorer(model, install_template(AutoTokenizer.from_pretrained(folder, trust_remote_code=False)))


WITHOUT_US = """
import json, sys
from transformers import AutoModelForSequenceClassification, AutoTokenizer
folder, texts = sys.argv[1], json.loads(sys.argv[2])
model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True)
tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
assert "wildreward" not in sys.modules
print([model(**tokenizer(text, return_tensors="pt", add_special_tokens=False)).logits.item() for text in texts])
"""


def scores_without_us(folder, tokenizer):
    """Of the model in `rm`, in a process that knows nothing of this package."""
    (folder / "load.py").write_text(WITHOUT_US)
    texts = [tokenizer.apply_chat_template(messages, tokenize=False) for messages in CHATS]
    done = subprocess.run(
        [sys.executable, "load.py", "rm", json.dumps(texts)],
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"HF_MODULES_CACHE": str(folder / "modules")},
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("own_config", [True, False])
def test_code_of_a_backbone_goes_with_the_reward_model_and_runs_where_it_is_trusted(own_config, tmp_path):
    scorer = scorer_of(own_backbone(tmp_path / "base", own_config), trust_remote_code=True)
    stock = LlamaModel.from_pretrained(tmp_path / "base")
    ids = torch.tensor([[5, 6, 7]])
    torch.testing.assert_close(scorer.model.model(ids).last_hidden_state, 2 * stock(ids).last_hidden_state)
    expected = scorer.score(CHATS)
    scorer.save_pretrained(tmp_path / "rm")
    for path in (tmp_path / "base").glob("*.py"):  # nothing of where it came from is needed
        path.unlink()
    code = {path.name for path in (tmp_path / "rm").glob("*tiny*.py")}
    assert code == {"modeling_tiny.py", "tiny_layers.py"} | ({"configuration_tiny.py"} if own_config else set())
    if own_config:
        assert scores_without_us(tmp_path, scorer.tokenizer) == pytest.approx(expected, abs=1e-5)
    # and here, by the package's own classes, again and again
    folder = str(tmp_path / "rm")
    for number in range(2):
        again = RewardScorer.from_pretrained(folder, trust_remote_code=True)
        assert again.score(CHATS) == pytest.approx(expected, abs=1e-5)
        again.save_pretrained(folder := str(tmp_path / f"again{number}"))
    model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True, num_labels=1)
    assert isinstance(model, WildRewardForSequenceClassification) and type(model.model).__name__ == "TinyModel"
    assert RewardFunction(folder, trust_remote_code=True).score(CHATS) == pytest.approx(expected, abs=1e-5)
    for load in (RewardScorer.from_pretrained, RewardFunction):
        with pytest.raises(
            UserError, match=r"contains custom code, modeling_tiny\.TinyModel; .*trust_remote_code=True"
        ):
            load(folder)


def test_code_that_would_write_over_the_reward_models_own_is_refused_before_training(tmp_path):
    folder = own_backbone(tmp_path, layers="pooling")
    with pytest.raises(ValueError, match=r"its code has a file pooling\.py, as the reward model has; rename it there"):
        WildRewardForSequenceClassification.from_backbone(folder, trust_remote_code=True)


def test_a_backbone_of_transformers_is_saved_without_the_code_beside_it(tmp_path):
    scorer = scorer_of(own_backbone(tmp_path / "base", own_config=False))
    assert type(scorer.model.model) is LlamaModel
    scorer.save_pretrained(tmp_path / "rm")
    assert "auto_map" not in json.loads((tmp_path / "rm" / "config.json").read_text())["text_config"]
    assert RewardScorer.from_pretrained(tmp_path / "rm").score(CHATS) == pytest.approx(scorer.score(CHATS), abs=1e-5)


TEXT = SHAPE | {"num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
EYES = {"depth": 1, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 32}


def rope(*sections):
    return {"rope_parameters": {"rope_type": "default", "mrope_section": list(sections), "rope_theta": 1e4}}


def seeing(kind):
    """Configuration of a tiny model that also sees."""
    if kind == "gemma3":
        eyes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
        eyes |= {"image_size": 28, "patch_size": 14}
        text = TEXT | {"head_dim": 8, "sliding_window": 16}
        return Gemma3Config(text_config=text, vision_config=eyes, mm_tokens_per_image=4)
    if kind == "qwen2_5_vl":
        eyes = EYES | {"fullatt_block_indexes": [0]}
        return Qwen2_5_VLConfig(text_config=TEXT | rope(1, 1, 2), vision_config=eyes)
    eyes = EYES | {"deepstack_visual_indexes": [0], "num_position_embeddings": 16}
    return Qwen3VLConfig(text_config=TEXT | {"head_dim": 8} | rope(2, 1, 1), vision_config=eyes)


@pytest.mark.parametrize("kind", ["gemma3", "qwen2_5_vl", "qwen3_vl"])
def test_of_a_model_that_sees_the_text_part_is_trained_and_saved(kind, tmp_path):
    torch.manual_seed(0)
    whole = AutoModel.from_config(seeing(kind)).eval()
    whole.save_pretrained(tmp_path / "base")
    decoder_tokenizer().save_pretrained(tmp_path / "base")
    scorer = scorer_of(tmp_path / "base")
    ids = torch.tensor([scorer.encode(CHATS)[0]])
    text = whole(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    torch.testing.assert_close(scorer.model.model(ids).last_hidden_state, text)
    scorer.model(input_ids=ids, labels=torch.tensor([4])).loss.backward()
    assert [name for name, weight in scorer.model.named_parameters() if weight.grad is None] == []
    scorer.save_pretrained(tmp_path / "rm")
    with safe_open(tmp_path / "rm" / "model.safetensors", "pt") as weights:
        assert not [name for name in weights.keys() if "vis" in name or "projector" in name]  # noqa: SIM118
    again = RewardScorer.from_pretrained(tmp_path / "rm")
    expected = again.score(CHATS)
    assert expected == pytest.approx(scorer.score(CHATS), abs=1e-5)
    assert [again.score([messages])[0] for messages in CHATS] == pytest.approx(expected, abs=1e-5)
    shared = again.score_candidates(CHATS[0][:-1], ["sat on a mat", "wrong"])
    assert shared == pytest.approx([expected[0], again.score([chat("the cat", "wrong")])[0]], abs=1e-5)


@pytest.mark.parametrize("given", [{}, {"pad_token_id": None}])
def test_a_backbone_whose_configuration_has_no_padding_token(given, tmp_path):
    config = CodeGenConfig(vocab_size=400, n_embd=32, n_layer=1, n_head=4, rotary_dim=4, n_positions=128, **given)
    assert hasattr(config, "pad_token_id") == bool(given)
    AutoModel.from_config(config).save_pretrained(tmp_path / "base")
    decoder_tokenizer().save_pretrained(tmp_path / "base")
    scorer = scorer_of(tmp_path / "base")
    expected = scorer.score(CHATS)
    scorer.save_pretrained(tmp_path / "rm")
    assert RewardScorer.from_pretrained(tmp_path / "rm").score(CHATS) == pytest.approx(expected, abs=1e-5)
