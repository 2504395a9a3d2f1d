"""To and from an ordinary `<Arch>ForSequenceClassification` with K - 1 labels, one logistic unit a threshold.

That is the form of the checkpoints published with the paper, and one that vLLM's `/classify`, sentence-transformers'
CrossEncoder and any transformers program load: `score = 1 + Σ_k sigmoid(logit_k)`.
"""

import copy
import json
import logging
import os
from pathlib import Path

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


def export_model(
    model: WildRewardForSequenceClassification, tokenizer: PreTrainedTokenizerBase
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The same scores as a plain sequence classifier: temperatures folded into the rows of its `score` layer.

    Args:
        model: a reward model with the `independent` head, `last` pooling and a decoder backbone.
        tokenizer: the model's.

    Returns:
        `<Arch>ForSequenceClassification` with K - 1 labels, its backbone shared with `model`, not copied; and the
        tokenizer, with another padding token where that would also end the texts, because a plain classifier reads
        the last token that is not padding.

    Raises:
        ValueError: a head or backbone that such a classifier cannot express, with the reason.
    """
    config = model.config
    reasons = []
    if config.head != "independent":
        reasons.append(
            f"a model with the {config.head} head cannot be exported: its level probabilities are not one sigmoid a "
            "logit without a bias, which is all that a plain classifier can express; train with head=independent"
        )
    if config.pooling != "last" or not model.causal:
        reasons.append(
            f"a {config.text_config.model_type} model with {config.pooling} pooling cannot be exported: plain "
            "classifiers of encoders put further layers between backbone and logits; use a decoder with last pooling"
        )
    if reasons:
        raise ValueError("; and ".join(reasons))
    labels = {k: f"P(level > {k + 1})" for k in range(config.num_levels - 1)}
    plain = AutoConfig.for_model(**config.text_config.to_dict())
    plain.id2label, plain.label2id = labels, {name: k for k, name in labels.items()}
    plain.problem_type = "multi_label_classification"  # makes vLLM and CrossEncoder apply a sigmoid to each logit
    tokenizer = _pads_apart(tokenizer)
    plain.get_text_config().pad_token_id = tokenizer.pad_token_id
    plain.dtype = model.dtype
    with torch.device("meta"):
        classifier = AutoModelForSequenceClassification.from_config(plain, trust_remote_code=False)
    if not isinstance(getattr(classifier, "score", None), nn.Linear):
        raise ValueError(f"{type(classifier).__name__} has no linear `score` layer to export to")
    setattr(classifier, classifier.base_model_prefix, model.model)
    temperatures = torch.tensor(config.temperatures, dtype=torch.float32, device=model.device)
    classifier.score = nn.Linear(model.score.weight.shape[1], config.num_levels - 1, bias=False, device="meta")
    classifier.score.weight = nn.Parameter((model.score.weight.float() / temperatures[:, None]).to(model.dtype))
    return classifier.eval(), tokenizer


def _pads_apart(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """A copy whose padding token does not end the input texts. Any other will do: what it pads is masked."""
    tokenizer = copy.deepcopy(tokenizer)
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    last = tokenizer(text, add_special_tokens=False)["input_ids"][-1]
    if tokenizer.pad_token_id == last:
        others = (tokenizer.bos_token_id, tokenizer.unk_token_id, 0, 1)
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(next(i for i in others if i is not None and i != last))
    return tokenizer


def convert_checkpoint(
    checkpoint: str | os.PathLike, template: str | None = None, max_length: int = 4096, revision: str | None = None
) -> tuple[WildRewardForSequenceClassification, "AutoTokenizer"]:
    """Read a plain sequence classifier with K - 1 threshold labels as a reward model.

    Args:
        checkpoint: folder or Hub id with safetensors weights.
        template: Jinja chat template that renders the input text the checkpoint was trained on; None keeps the
            tokenizer's own if it is this package's; `"default"` installs this package's.
        max_length: longest input in tokens.
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
    if weight.shape[0] < 2:
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
    config = WildRewardConfig(
        text_config=text_config,
        num_levels=weight.shape[0] + 1,
        head="independent",
        pooling="last",
        max_length=min(max_length, getattr(text_config.get_text_config(), "max_position_embeddings", max_length)),
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
    return model.eval(), tokenizer


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
