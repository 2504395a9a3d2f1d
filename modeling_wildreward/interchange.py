"""To and from an ordinary `<Arch>ForSequenceClassification`, which inference engines and any transformers program load.

Its `score` layer is one linear map without biases, so each head has one form:

    scalar      (coral) one label, the logit w·h, which alone decides the order. The biases b and temperatures T stay in
                the configuration: score = 1 + Σ_k sigmoid((w·h + b_k) / T_k), each term at most the one before.
    thresholds  (independent) K - 1 labels, a logistic unit each: score = 1 + Σ_k sigmoid(logit_k). That is the form of
                the checkpoints published with the paper.

The configuration holds `wildreward_form`, `wildreward_thresholds` and `wildreward_temperatures`; of `thresholds` the latter
are zeros and ones, for they are in the weights.
"""

import copy
import json
import logging
import math
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors import safe_open
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from .configuration_wildreward import WildRewardConfig
from .loading import load_whole
from .modeling_wildreward import WildRewardForSequenceClassification
from .template import install_template

logger = logging.getLogger(__name__)

TEMPLATE_MARK = "Rate how well the last response serves the user."
FORMS = {"coral": "scalar", "independent": "thresholds"}


def check_form(config: WildRewardConfig, form: str | None = None) -> str:
    """The form that a model is exported to: the given one, or by default the one that its head has.

    Raises:
        ValueError: there is none for this head or pooling, with the reason.
    """
    if form not in (None, "scalar", "thresholds"):
        raise ValueError(f"form is {form!r}; expected scalar or thresholds")
    reasons = []
    if config.head == "corn":
        reasons.append(
            "a model with the corn head cannot be exported: its level probabilities are products of sigmoids with biases, "
            "and engines read one linear layer without any; train with head=coral or head=independent"
        )
    elif form not in (None, FORMS[config.head]):
        why = (
            "its thresholds differ in their biases alone, for which a plain classifier has no place"
            if config.head == "coral"
            else "each of its thresholds has a weight vector of its own"
        )
        reasons.append(f"a model with the {config.head} head has no {form} form: {why}; use {FORMS[config.head]}")
    if config.pooling != "last":
        reasons.append(
            f"a {config.text_config.model_type} model with {config.pooling} pooling cannot be exported: plain "
            "classifiers of encoders put further layers between backbone and logits; use a decoder with last pooling"
        )
    if reasons:
        raise ValueError("; and ".join(reasons))
    return FORMS[config.head]


def export_model(
    model: WildRewardForSequenceClassification, tokenizer: PreTrainedTokenizerBase, form: str | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The same scores as a plain sequence classifier, to be saved.

    Args:
        model: a reward model with the `coral` or `independent` head, `last` pooling and a decoder backbone.
        tokenizer: the model's.
        form: see [`check_form`].

    Returns:
        `<Arch>ForSequenceClassification` with one label or K - 1, its backbone shared with `model`, not copied, its
        `score` layer in float32, as engines compute it; and the tokenizer, see [`_for_engines`].

    Raises:
        ValueError: a head or backbone that such a classifier cannot express, with the reason.
    """
    config, form = model.config, check_form(model.config, form)
    if not model.causal:
        raise ValueError(
            f"a {config.text_config.model_type} model that looks both ways cannot be exported: engines read decoders "
            "from left to right"
        )
    scalar = form == "scalar"
    labels = {0: "reward"} if scalar else {k: f"P(level > {k + 1})" for k in range(config.num_levels - 1)}
    plain = AutoConfig.for_model(**config.text_config.to_dict())
    plain.id2label, plain.label2id = labels, {name: k for k, name in labels.items()}
    # what vLLM makes of the logits: nothing, or the sigmoid of each
    plain.problem_type = "regression" if scalar else "multi_label_classification"
    plain.wildreward_form = form
    plain.wildreward_thresholds = model.score.biases().tolist()
    plain.wildreward_temperatures = list(config.temperatures) if scalar else [1.0] * len(config.temperatures)
    tokenizer = _for_engines(tokenizer, config.max_length)
    plain.get_text_config().pad_token_id = tokenizer.pad_token_id
    plain.dtype = model.dtype
    with torch.device("meta"):
        classifier = AutoModelForSequenceClassification.from_config(plain, trust_remote_code=False)
    if not isinstance(getattr(classifier, "score", None), nn.Linear):
        raise ValueError(f"{type(classifier).__name__} has no linear `score` layer to export to")
    setattr(classifier, classifier.base_model_prefix, model.model)
    weight = model.score.weight.detach().float()
    if not scalar:
        weight = weight / torch.tensor(config.temperatures, dtype=torch.float32, device=weight.device)[:, None]
    classifier.score = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    classifier.score.weight = nn.Parameter(weight)
    return classifier.eval(), tokenizer


def _for_engines(tokenizer: PreTrainedTokenizerBase, max_length: int) -> PreTrainedTokenizerBase:
    """A copy for programs that know nothing of reward models.

    Its padding token does not end the input texts, because a plain classifier reads the last token that is not padding
    (any other will do: what it pads is masked). It adds no tokens to a text: the template has written them, and an engine
    that tokenizes rendered text would add them again. And it says how long an input may be.
    """
    tokenizer = copy.deepcopy(tokenizer)
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    last = tokenizer(text, add_special_tokens=False)["input_ids"][-1]
    if tokenizer.pad_token_id == last:
        others = (tokenizer.bos_token_id, tokenizer.unk_token_id, 0, 1)
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(next(i for i in others if i is not None and i != last))
    if tokenizer("a")["input_ids"] != tokenizer("a", add_special_tokens=False)["input_ids"]:
        tokenizer.add_bos_token = tokenizer.add_eos_token = False
    tokenizer.model_max_length = max_length
    return tokenizer


def convert_checkpoint(
    checkpoint: str | os.PathLike, template: str | None = None, max_length: int = 4096, revision: str | None = None
) -> tuple[WildRewardForSequenceClassification, "AutoTokenizer"]:
    """Read what [`export_model`] made, or a plain sequence classifier with K - 1 threshold labels, as a reward model.

    Args:
        checkpoint: folder or Hub id with safetensors weights.
        template: Jinja chat template that renders the input text the checkpoint was trained on; None keeps the
            tokenizer's own if it is this package's; `"default"` installs this package's.
        max_length: longest input in tokens, at most what the backbone's positions or an export allow.
        revision: of a Hub id.

    Returns:
        `(model, tokenizer)`, ready for `RewardScorer`.

    Raises:
        ValueError: no safetensors, fewer than 2 labels, a head that is not one linear layer without bias, weights that
            are missing, left over or of another shape, or no template that fits.
    """
    folder = _local_folder(checkpoint, revision)
    text_config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    weight = _score_weight(folder)
    form, thresholds, temperatures = _take_form(text_config, len(weight))
    if form is None and len(weight) < 2:
        raise ValueError(
            f"{checkpoint} has {weight.shape[0]} label: a pairwise (Bradley-Terry) reward model has no levels and "
            "cannot be converted; `wildreward evaluate` takes it as it is"
        )
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if template == "default":
        install_template(tokenizer)
    elif template is not None:
        tokenizer.chat_template = template
    elif TEMPLATE_MARK not in (tokenizer.chat_template or ""):
        raise ValueError(
            f"what input text {checkpoint} was trained on is not known; give its Jinja template as a file, or "
            "'default' for this package's own template"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    longest = getattr(text_config.get_text_config(), "max_position_embeddings", None) or max_length
    config = WildRewardConfig(
        text_config=text_config,
        num_levels=len(thresholds) + 1,
        head="coral" if form == "scalar" else "independent",
        pooling="last",
        temperatures=temperatures,
        max_length=min(max_length, longest, tokenizer.model_max_length if form else max_length),
        pad_token_id=tokenizer.pad_token_id,
        base_model=Path(checkpoint).name if Path(checkpoint).exists() else str(checkpoint),
    )
    backbone, _ = load_whole(
        AutoModel.from_pretrained, folder, use_safetensors=True, trust_remote_code=False, may_have=("score.",)
    )
    text_config._name_or_path = ""
    config.dtype = backbone.dtype
    model = WildRewardForSequenceClassification(config, backbone=backbone)
    model.score.weight = nn.Parameter(weight.float())
    if form == "scalar":
        model.score.set_biases(torch.tensor(thresholds, dtype=torch.float64))
    return model.eval(), tokenizer


def _take_form(config: Any, labels: int) -> tuple[str | None, list[float], list[float]]:
    """Form, thresholds and temperatures, taken out of a classifier's configuration; None, zeros and ones where it says
    nothing of them."""
    names = ("wildreward_form", "wildreward_thresholds", "wildreward_temperatures")
    form, thresholds, temperatures = (config.__dict__.pop(name, None) for name in names)
    if form is None:
        return None, [0.0] * labels, [1.0] * labels
    falling = isinstance(thresholds, list) and all(isinstance(bias, int | float) for bias in thresholds)
    falling = falling and all(one >= next_one > -math.inf for one, next_one in pairwise([math.inf, *thresholds]))
    if form not in FORMS.values() or not falling or labels != (1 if form == "scalar" else len(thresholds)):
        raise ValueError(
            f"the configuration says wildreward_form {form!r} and wildreward_thresholds {thresholds!r} of {labels} labels; "
            "expected scalar with falling finite numbers and one label, or thresholds with as many labels"
        )
    return form, thresholds, temperatures


def _local_folder(checkpoint: str | os.PathLike, revision: str | None) -> Path:
    if Path(checkpoint).is_dir():
        return Path(checkpoint)
    patterns = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]
    return Path(snapshot_download(str(checkpoint), revision=revision, allow_patterns=patterns))


def _score_weight(folder: Path) -> torch.Tensor:
    """(K - 1, H) weight of the `score` layer, read from the safetensors files."""
    index = folder / "model.safetensors.index.json"
    files = (
        sorted(set(json.loads(index.read_text())["weight_map"].values())) if index.exists() else ["model.safetensors"]
    )
    found = {}
    for name in files:
        if not (folder / name).exists():
            raise ValueError(f"{folder} has no {name}; only safetensors checkpoints are read")
        with safe_open(folder / name, framework="pt") as tensors:
            found |= {key: tensors.get_tensor(key) for key in tensors.keys() if key.split(".")[0] in HEAD_LAYERS}  # noqa: SIM118
    if set(found) - {"score.weight", "score.bias"} or "score.weight" not in found:
        raise ValueError(
            f"{folder} has the head layers {sorted(found) or 'none'}; expected a single linear layer `score`, "
            "as decoders' ForSequenceClassification classes have it"
        )
    if "score.bias" in found and bool(found["score.bias"].any()):
        raise ValueError(
            f"{folder} has a `score` layer with a bias, which transformers' own class would drop on loading; "
            "its scores cannot be reproduced by a plain classifier"
        )
    return found["score.weight"]


HEAD_LAYERS = ("score", "classifier", "head", "pre_classifier")
