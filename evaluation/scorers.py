"""Reward models of any kind behind one small interface: a WildReward folder or id, a Bradley-Terry classifier, a URL."""

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from wildreward.bundled import resolve
from wildreward.errors import UserError
from wildreward.evaluation.store import Group, Message, Scored, Scorer
from wildreward.lookup import hub_commit, why_not
from wildreward.names import public_name
from wildreward.reward_source import check_address, is_url
from wildreward.weights import check_files, weights_digest

logger = logging.getLogger(__name__)

HASHED = (
    "config.json",
    "*.safetensors",
    "tokenizer*",
    "chat_template*",
    "special_tokens_map.json",
    "vocab*",
    "*.model",
)


def folder_fingerprint(folder: str | os.PathLike) -> str:
    """Digest of everything in a model folder that scores depend on: weights, configuration, tokenizer, template."""
    digest = hashlib.sha256()
    for path in sorted({path for pattern in HASHED for path in Path(folder).glob(pattern)}):
        digest.update(path.name.encode())
        with open(path, "rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()[:16]


def fingerprint_of(model: str, settings: dict[str, Any]) -> str:
    """Identity of a model together with the settings that its scores depend on."""
    identity = folder_fingerprint(model) if Path(model).is_dir() else model
    text = json.dumps([identity, settings], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class WildRewardScorer:
    """A WildReward model: scores with level distributions, shared prompts read once."""

    kind = "wildreward"

    def __init__(
        self, model: str, scorer: Any, fingerprint: str, revision: str | None = None, weights: str | None = None
    ) -> None:
        self.name = public_name(model)
        self.scorer = scorer
        self.fingerprint = fingerprint
        self.revision = revision
        self.weights = weights
        self.num_levels = scorer.model.config.num_levels
        self.settings = {"dtype": _dtype(scorer.model), "max_length": scorer.model.config.max_length}

    def score_groups(self, groups: Sequence[Group]) -> list[list[Scored]]:
        """Score every completion of every group."""
        try:
            rows = self.scorer.judge_groups([(group.prompt, group.completions) for group in groups])
        except ValueError as error:
            raise UserError(f"{self.name} cannot score {_names(groups)} ({error})") from error
        return [[Scored(row[0], tuple(row[1:])) for row in group] for group in rows]


def _names(groups: Sequence[Group]) -> str:
    names = ", ".join(repr(group.id) for group in groups[:3])
    return f"items {names}{'…' if len(groups) > 3 else ''}"


class ClassifierScorer:
    """A Bradley-Terry `<Arch>ForSequenceClassification` with one label; its tokenizer's chat template renders the text."""

    kind = "sequence-classification"

    def __init__(
        self,
        model: str,
        network: Any,
        tokenizer: Any,
        fingerprint: str,
        max_length: int,
        token_budget: int,
        revision: str | None = None,
        weights: str | None = None,
    ) -> None:
        from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

        self.name = public_name(model)
        self.network = network.eval()
        self.tokenizer = tokenizer
        self.fingerprint = fingerprint
        self.revision = revision
        self.weights = weights
        self.settings = {"dtype": _dtype(network), "max_length": max_length}
        self.max_length = max_length
        self.token_budget = token_budget
        pad, tokens = _text_config(network).pad_token_id, network.get_input_embeddings().num_embeddings
        self.pad = pad if pad is not None and 0 <= pad < tokens else None  # the model's, whatever the tokenizer's is
        self.decoder = network.config.model_type not in MODEL_FOR_MASKED_LM_MAPPING_NAMES

    def _encode(self, messages: list[Message]) -> tuple[list[int], bool]:
        """Token ids of a conversation, and whether its answer lost its beginning."""
        try:
            text = self.tokenizer.apply_chat_template(messages, tokenize=False)
        except TemplateError as error:  # such as: no system messages
            raise ValueError(f"the chat template refuses a conversation: {error}") from error
        text = text.encode("utf-8", "replace").decode()  # no lone surrogates
        ids = self._ids(text)
        if len(ids) <= self.max_length:
            return ids, False
        # What does not fit goes at the front: the answer is cut last.
        start = text.rfind(messages[-1]["content"].encode("utf-8", "replace").decode().strip())
        return ids[-self.max_length :], len(self._ids(text[max(start, 0) :])) > self.max_length

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]

    def _read_to_the_end(self, ids: list[int]) -> list[int]:
        """A decoder's row up to the token that its class reads: the last one that is not the model's padding token.

        What follows it cannot be seen from there, and with padding behind it another token would be read.
        """
        end = len(ids)
        while self.decoder and end > 1 and ids[end - 1] == self.pad:
            end -= 1
        return ids[:end]

    def _pad(self, rows: list[list[int]]) -> dict[str, Any]:
        """(B, T) ids and mask, padded on the right with a token that ends none of the rows, which the model is told."""
        import torch

        ends = {row[-1] for row in rows}
        pad = self.pad if self.pad is not None else next(i for i in range(len(ends) + 1) if i not in ends)
        _text_config(self.network).pad_token_id = pad
        width = max(map(len, rows))
        ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows], device=self.network.device)
        lengths = torch.tensor([len(row) for row in rows], device=ids.device)
        mask = torch.arange(width, device=ids.device) < lengths[:, None]
        return {"input_ids": ids, "attention_mask": mask.long()}

    def score_groups(self, groups: Sequence[Group]) -> list[list[Scored]]:
        """Score every completion of every group, in batches of like length within the token budget."""
        import torch

        from wildreward.scorer import length_batches

        try:
            encoded = [
                self._encode([*group.prompt, {"role": "assistant", "content": c}])
                for group in groups
                for c in group.completions
            ]
        except ValueError as error:
            raise UserError(f"{self.name} cannot score {_names(groups)} ({error})") from error
        if cut := sum(cut for _, cut in encoded):
            logger.warning(
                "%d of %d answers exceed %d tokens: their beginning was left out before scoring",
                cut,
                len(encoded),
                self.max_length,
            )
        rows = [self._read_to_the_end(ids) for ids, _ in encoded]
        scores = [float("nan")] * len(rows)
        with torch.inference_mode():
            for batch in length_batches([len(row) for row in rows], self.token_budget):
                logits = self.network(**self._pad([rows[i] for i in batch])).logits
                for position, value in zip(batch, logits[:, 0].float().tolist(), strict=True):
                    scores[position] = value
        flat = iter(scores)
        return [[Scored(next(flat)) for _ in group.completions] for group in groups]


class RemoteScorer:
    """A reward server that answers `POST {"query": [text…]}` with `{"rewards": [float…]}`."""

    kind = "remote"
    revision = None
    weights = None

    def __init__(self, url: str, text_tokenizer: str | None = None) -> None:
        from wildreward.reward_source import RemoteReward, source_name

        check_address(url)
        tokenizer = None
        if text_tokenizer is not None:
            tokenizer = _load_tokenizer(resolve(text_tokenizer))
        self.name = source_name(url)
        self.settings = {"text_tokenizer": text_tokenizer and public_name(text_tokenizer)}
        self.fingerprint = fingerprint_of(url, self.settings)
        self._ask = RemoteReward(url, tokenizer=tokenizer)

    def score_groups(self, groups: Sequence[Group]) -> list[list[Scored]]:
        """Score every completion of every group; a reward the server leaves out is NaN, which the caller refuses."""
        from wildreward.reward_source import RewardSourceError

        conversations = [
            [*group.prompt, {"role": "assistant", "content": c}] for group in groups for c in group.completions
        ]
        try:
            rewards = iter(self._ask(conversations))
        except RewardSourceError as error:
            raise UserError(f"{error}; what was scored before is kept, run the same command again") from error
        missing = float("nan")
        values = [[next(rewards) for _ in group.completions] for group in groups]
        return [[Scored(missing if v is None else float(v)) for v in group] for group in values]


def open_config(model: str, revision: str | None = None, trust_remote_code: bool = False) -> tuple[Any, Any]:
    """Configuration of a model folder or Hub id, and the commit it was read at: a `ResolvedRevision`, None of a folder.

    Raises:
        UserError: there is none, or a file of it cannot be read.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    import wildreward.modeling_wildreward  # noqa: F401 - makes AutoConfig know the model type

    path = resolve(model)
    check_files(path)
    try:
        commit = hub_commit(path, revision)
        return AutoConfig.from_pretrained(path, revision=commit, trust_remote_code=trust_remote_code), commit
    except (OSError, ValueError, StrictDataclassError) as error:
        raise UserError(
            f"{model} is not a model folder, Hub id or URL that can be opened: {why_not(path, error)}"
        ) from error


def model_levels(model: str, *, revision: str | None = None, trust_remote_code: bool = False, **_: Any) -> int | None:
    """Number of levels of a model that has them, before its weights are loaded; takes what `load_scorer` takes."""
    if is_url(model):
        check_address(model)
        return None
    config, _ = open_config(model, revision, trust_remote_code)
    return config.num_levels if config.model_type == "wildreward" else None


def load_scorer(
    model: str,
    *,
    revision: str | None = None,
    dtype: str = "auto",
    token_budget: int = 16_384,
    max_length: int = 4096,
    trust_remote_code: bool = False,
    text_tokenizer: str | None = None,
    device_map: str | None = None,
) -> Scorer:
    """Open any reward model.

    Args:
        model: folder, Hub id, or URL of a server that answers `POST {"query": [text…]}` with `{"rewards": [float…]}`.
        revision: of a Hub id.
        dtype: of the weights, as transformers names them.
        token_budget: most padded tokens in one forward pass.
        max_length: longest input in tokens of a classifier, within what its positions allow; a WildReward model
            says its own.
        trust_remote_code: allow code from the model's repository.
        text_tokenizer: for a URL: whose chat template renders the text; by default the reward template without
            special tokens.
        device_map: passed to transformers; by default the GPU where there is one.

    Raises:
        UserError: it is not a reward model, saying what it is.
    """
    _say_what_is_passed_over(model, revision, text_tokenizer)
    if is_url(model):
        return RemoteScorer(model, text_tokenizer)
    from wildreward.scorer import default_device

    path = resolve(model)
    config, commit = open_config(model, revision, trust_remote_code)
    # A Hub id is pinned by the commit it resolved to, a folder by its content.
    identity = f"{model}@{commit.resolved}" if commit else path
    options: dict[str, Any] = {"dtype": dtype, "device_map": device_map or default_device()}
    if commit:
        options["revision"] = commit
    if config.model_type == "wildreward":
        from wildreward.scorer import RewardScorer

        scorer = RewardScorer.from_pretrained(path, token_budget=token_budget, **options)
        fingerprint = fingerprint_of(identity, {"dtype": dtype})
        return WildRewardScorer(model, scorer, fingerprint, commit and commit.resolved, weights_digest(path))
    if config.num_labels != 1:
        raise UserError(
            f"{model} is a {config.model_type} model with {config.num_labels} labels; expected a WildReward model or a "
            "classifier with one label (wildreward convert reads one with K-1 threshold labels)"
        )
    return _load_classifier(model, path, identity, options, max_length, token_budget, trust_remote_code)


def _say_what_is_passed_over(model: str, revision: str | None, text_tokenizer: str | None) -> None:
    """Options of a comparison go to both models, so one that fits only the other is no error."""
    remote = is_url(model)
    if revision is not None and (remote or Path(resolve(model)).is_dir()):
        logger.warning("--revision is passed over for %s: only a model from the Hub has revisions", public_name(model))
    if text_tokenizer is not None and not remote:
        logger.warning("--text_tokenizer is passed over for %s: it is for URLs", public_name(model))


def _load_classifier(
    model: str,
    path: str,
    identity: str,
    options: dict[str, Any],
    max_length: int,
    token_budget: int,
    trust_remote_code: bool,
) -> ClassifierScorer:
    from safetensors import SafetensorError
    from transformers import AutoModelForSequenceClassification

    from wildreward.modeling_wildreward.loading import WeightsError, load_whole
    from wildreward.modeling_wildreward.modeling_wildreward import position_limit

    try:
        network, _ = load_whole(
            AutoModelForSequenceClassification.from_pretrained,
            path,
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            **options,
        )
    except (OSError, ValueError, SafetensorError) as error:
        hint = "; it is not a trained reward model (a base model has no score layer)"
        why = why_not(path, error) + (hint if isinstance(error, WeightsError) else "")
        raise UserError(f"{model} is not a classifier that can be loaded: {why}") from error
    commit = options.get("revision")
    tokenizer = _load_tokenizer(path, trust_remote_code=trust_remote_code, revision=commit)
    limits = (getattr(_text_config(network), "max_position_embeddings", None), position_limit(network.base_model))
    limit = min([max_length, *(limit for limit in limits if limit and limit > 0)])
    # `reads`: scores kept from when another token could be read are not of this model.
    fingerprint = fingerprint_of(identity, {"dtype": options["dtype"], "max_length": limit, "reads": "last"})
    revision, weights = commit and commit.resolved, weights_digest(path)
    return ClassifierScorer(model, network, tokenizer, fingerprint, limit, token_budget, revision, weights)


def _load_tokenizer(name: str, **options: Any) -> Any:
    from wildreward.limited_template import load_tokenizer

    try:
        options["revision"] = hub_commit(name, options.get("revision"))
        return load_tokenizer(name, **options)
    except (OSError, ValueError) as error:
        raise UserError(f"the tokenizer of {name} cannot be loaded: {why_not(name, error)}") from error


def _text_config(network: Any) -> Any:
    return network.config.get_text_config()


def _dtype(network: Any) -> str:
    return str(network.dtype).removeprefix("torch.")
