"""Reward models with code of their own: several objectives, a value head; what cannot be read is refused in one line."""

import json

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer, LlamaConfig, LlamaModel

from tests.evaluation.evaluation_tiny import (
    classifier_folder,
    compare_models,
    policy_folder,
    reward_model_folder,
    write_jsonl,
)
from wildreward.common.errors import UserError
from wildreward.scoring import load_scorer

CODE = """
from dataclasses import dataclass
import torch
from torch import nn
from transformers import LlamaModel, LlamaPreTrainedModel
from transformers.utils import ModelOutput

@dataclass
class Output(ModelOutput):
    rewards: torch.Tensor = None
    gating: torch.Tensor = None
    score: torch.Tensor = None

class Base(LlamaPreTrainedModel):
    width = 1
    def __init__(self, config):
        super().__init__(config)
        self.model = LlamaModel(config)
        self.head = nn.Linear(config.hidden_size, self.width, bias=False)
        self.post_init()
    def values(self, input_ids, attention_mask):
        return self.head(self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state)

class Objectives(Base):
    width = 3
    def forward(self, input_ids=None, attention_mask=None):
        rewards = self.values(input_ids, attention_mask)[:, -1]
        gating = rewards.softmax(dim=1)
        return Output(rewards=rewards, gating=gating, score=(gating * rewards).sum(dim=1))

class ValueHead(Base):
    def forward(self, input_ids=None, attention_mask=None):
        values = self.values(input_ids, attention_mask)
        return (values.expand(-1, -1, 7), None, values[:, -1, 0])

class Logits(Base):
    def forward(self, input_ids=None, attention_mask=None):
        return {"logits": self.values(input_ids, attention_mask)[:, -1]}

class EveryToken(Base):
    def forward(self, input_ids=None, attention_mask=None):
        return (self.values(input_ids, attention_mask)[..., 0],)

class Two(Base):
    def forward(self, input_ids=None, attention_mask=None):
        values = self.values(input_ids, attention_mask)[..., 0]
        return values[:, -1], values[:, 0]
"""
CHATS = [
    [{"role": "user", "content": "how is the code"}, {"role": "assistant", "content": answer}]
    for answer in ("it is good", "bad", "the answer is not right please " * 5, "a list of python answers")
]


def own_code(folder, name, auto="AutoModelForSequenceClassification"):
    """A model folder whose configuration names the class `name` of `objectives.py` beside it."""
    place = classifier_folder(folder, labels=3)
    (place / "objectives.py").write_text(CODE)
    config = json.loads((place / "config.json").read_text())
    config |= {"auto_map": {auto: f"objectives.{name}"}, "architectures": [name]}
    (place / "config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    backbone = LlamaModel(LlamaConfig.from_pretrained(place))
    width = 3 if name == "Objectives" else 1
    weights = {f"model.{key}": value.contiguous() for key, value in backbone.state_dict().items()}
    weights["head.weight"] = torch.randn(width, backbone.config.hidden_size)
    save_file(weights, place / "model.safetensors", metadata={"format": "pt"})
    return place


def alone(place, auto):
    """What the model itself says of each chat, one at a time."""
    model = auto.from_pretrained(place, trust_remote_code=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(place)
    for chat in CHATS:
        text = tokenizer.apply_chat_template(chat, tokenize=False)
        ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
        with torch.no_grad():
            yield model(input_ids=ids, attention_mask=torch.ones_like(ids))


@pytest.mark.parametrize(
    ("name", "auto", "read_from", "single"),
    [
        ("Objectives", AutoModelForSequenceClassification, "score", lambda out: out.score),
        ("ValueHead", AutoModelForSequenceClassification, "2", lambda out: out[2]),
        ("ValueHead", AutoModel, "2", lambda out: out[2]),
        ("Logits", AutoModelForSequenceClassification, "logits", lambda out: out["logits"]),
    ],
)
def test_the_one_number_a_row_is_the_score_however_rows_are_batched(name, auto, read_from, single, tmp_path):
    place = own_code(tmp_path, name, auto.__name__)
    scorer = load_scorer(str(place), dtype="float32", trust_remote_code=True)
    expected = [single(out).item() for out in alone(place, auto)]
    assert max(expected) - min(expected) > 1e-3
    assert [one.score for one in scorer.score(CHATS)] == pytest.approx(expected, abs=1e-5)
    assert [one.score for chat in CHATS[::-1] for one in scorer.score([chat])] == pytest.approx(
        expected[::-1], abs=1e-5
    )
    assert scorer.kind == "own-code" and scorer.settings["read_from"] == read_from
    before = scorer.fingerprint
    (place / "objectives.py").write_text(CODE + "# changed\n")
    assert load_scorer(str(place), dtype="float32", trust_remote_code=True).fingerprint != before


@pytest.mark.parametrize(
    ("name", "found"),
    [("EveryToken", r"0 \(2, \d+\) for 2 rows of \d+ tokens"), ("Two", r"0 \(2,\), 1 \(2,\) for 2 rows of \d+ tokens")],
)
def test_an_output_that_is_not_one_number_a_row_is_refused(name, found, tmp_path):
    place = own_code(tmp_path, name)
    with pytest.raises(
        UserError, match=rf"the code of classifier gives {found}; expected one number a row in score, .*"
    ):
        load_scorer(str(place), trust_remote_code=True)


def test_without_trust_the_refusal_names_the_option(tmp_path):
    with pytest.raises(UserError, match=r"with 3 labels; .*it names code of its own, which --trust-remote-code runs"):
        load_scorer(str(own_code(tmp_path, "Objectives")))
    place = own_code(tmp_path / "one", "Objectives")
    config = json.loads((place / "config.json").read_text()) | {"id2label": {"0": "x"}, "label2id": {"x": 0}}
    (place / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"lacks weights for score\.weight .*which --trust-remote-code runs"):
        load_scorer(str(place))


def test_a_reference_for_what_is_no_policy_is_an_error(tmp_path):
    policy, folder = policy_folder(tmp_path), reward_model_folder(tmp_path / "ours")
    for model in (str(folder), str(classifier_folder(tmp_path)), "http://127.0.0.1:9/score"):
        with pytest.raises(
            UserError, match=r"trained by DPO, and (reward-model|classifier|127\S*) is none; leave it out"
        ):
            load_scorer(model, reference=str(policy))
    file = write_jsonl(tmp_path / "p.jsonl", [{"prompt": "why", "chosen": "good", "rejected": "bad answer"}])
    options = {"options": {"bootstrap": 0, "plots": False, "pairs": [str(file)]}}
    with pytest.raises(UserError, match=r"--reference is for .*none of the models is one"):
        compare_models(
            [str(folder), str(classifier_folder(tmp_path))], tmp_path / "out", reference=str(policy), **options
        )
    # of several, it goes to the policies
    models = [str(folder), str(policy)]
    results = compare_models(models, tmp_path / "out", reference=str(policy_folder(tmp_path, 1)), **options)
    assert [one["model"]["kind"] for one in results["models"].values()] == ["wildreward", "implicit"]
