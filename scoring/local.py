"""Reward models on this machine as `Scorer`s: a WildReward model, and a plain classifier."""

import hashlib
import json
import os
from collections.abc import Sequence
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForSequenceClassification

from wildreward.common.chat import read_all
from wildreward.common.errors import UserError
from wildreward.common.hashing import file_sha256, text_sha256
from wildreward.common.lookup import load_error_message
from wildreward.common.names import public_name
from wildreward.common.weights import weights_digest
from wildreward.modeling_wildreward.loading import WeightsError, load_whole
from wildreward.modeling_wildreward.modeling_wildreward import position_limit
from wildreward.scoring.classifier import Classifier, named_tokenizer, pad_token
from wildreward.scoring.protocol import Conversation, Scored, kept
from wildreward.scoring.scorer import RewardScorer, length_batches

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
        digest.update(path.name.encode() + bytes.fromhex(file_sha256(path)))
    return digest.hexdigest()[:16]


def fingerprint_of(identity: str, settings: dict[str, Any]) -> str:
    """Identity of a model together with the settings that its scores depend on."""
    return text_sha256(json.dumps([identity, settings], sort_keys=True), 16)


class LocalScorer:
    """What both kinds have in common: by what a model is known, computed when it is asked for.

    Args:
        model: folder or Hub id.
        network: the loaded model.
        max_length: longest input in tokens.
        commit: of a Hub id, see `hub_commit`.
        known_by: what scores depend on besides the model.
    """

    def __init__(self, model: str, network: Any, max_length: int, commit: Any, known_by: dict[str, Any]) -> None:
        self.name, self.revision, self.max_length = public_name(model), commit and commit.resolved, max_length
        self.settings = {"dtype": str(network.dtype).removeprefix("torch."), "max_length": max_length}
        self.settings |= kept(known_by.get("keep_reasoning"))
        self._model, self._known_by = model, known_by

    @cached_property
    def fingerprint(self) -> str:
        """A Hub id is pinned by the commit it resolved to, a folder by its content."""
        identity = f"{self._model}@{self.revision}" if self.revision else folder_fingerprint(self._model)
        return fingerprint_of(identity, self._known_by)

    @cached_property
    def weights(self) -> str | None:
        return weights_digest(self._model)


class WildRewardScorer(LocalScorer):
    """A WildReward model: scores with level distributions, prompts that neighbours share read once."""

    kind = "wildreward"

    def __init__(self, model: str, commit: Any, **options: Any) -> None:
        self.scorer = RewardScorer.from_pretrained(model, revision=commit, **options)
        known_by = {"dtype": options["dtype"]} | kept(options.get("keep_reasoning"))
        config = self.scorer.model.config
        super().__init__(model, self.scorer.model, config.max_length, commit, known_by)
        self.num_levels = config.num_levels

    def score(self, conversations: Sequence[Conversation]) -> list[Scored | None]:
        """See `Scorer`."""
        runs = [(prompt, [c[-1:] for c in run]) for prompt, run in groupby(conversations, key=lambda c: c[:-1])]
        return [Scored(row[0], tuple(row[1:])) for rows in self.scorer.predict_groups(runs) for row in rows]


class ClassifierScorer(LocalScorer):
    """A plain `<Arch>ForSequenceClassification`: a Bradley-Terry model with one label, or an exported reward model; its
    tokenizer's chat template renders the text.

    Raises:
        UserError: it, or its tokenizer, cannot be loaded.
    """

    kind = "sequence-classification"

    def __init__(
        self,
        model: str,
        commit: Any,
        token_budget: int,
        max_length: int,
        trust_remote_code: bool = False,
        keep_reasoning: bool = False,
        code_hint: str = "",
        **options: Any,
    ) -> None:
        try:
            network, _ = load_whole(
                AutoModelForSequenceClassification.from_pretrained,
                model,
                use_safetensors=True,
                trust_remote_code=trust_remote_code,
                revision=commit,
                **options,
            )
        except (OSError, ValueError, SafetensorError) as error:
            hint = "; it is not a trained reward model (a base model has no score layer)"
            why = load_error_message(model, error) + (hint if isinstance(error, WeightsError) else "") + code_hint
            raise UserError(f"{model} is not a classifier that can be loaded: {why}") from error
        tokenizer = named_tokenizer(model, commit, trust_remote_code=trust_remote_code)
        limit = position_limit(network.base_model)
        self.classifier = Classifier(model, network.config, tokenizer, min(max_length, limit) if limit else max_length)
        self.num_levels = self.classifier.num_levels
        self.network, self.token_budget, self.keep_reasoning = network.eval(), token_budget, keep_reasoning
        # `reads`: scores kept from when another token could be read are not of this model.
        known_by = {"dtype": options["dtype"], "reads": "last", **self.classifier.known_by, **kept(keep_reasoning)}
        super().__init__(model, network, self.classifier.max_length, commit, known_by)
        self.pad = pad_token(network.config)

    def score(self, conversations: Sequence[Conversation]) -> list[Scored | None]:
        """See `Scorer`; in batches of like length within the token budget."""
        rows = self.classifier.encode(read_all(conversations, self.keep_reasoning))
        logits = [[float("nan")]] * len(rows)
        with torch.inference_mode():
            for batch in length_batches([len(row) for row in rows], self.token_budget):
                found = self.network(**self._pad([rows[i] for i in batch])).logits
                for position, values in zip(batch, found.float().tolist(), strict=True):
                    logits[position] = values
        return list(self.classifier.scored(logits))

    def _pad(self, rows: list[list[int]]) -> dict[str, torch.Tensor]:
        """(B, T) ids and mask, padded on the right with a token that ends none of the rows, which the model is told."""
        ends = {row[-1] for row in rows}
        pad = self.pad if self.pad is not None else next(i for i in range(len(ends) + 1) if i not in ends)
        self.network.config.get_text_config().pad_token_id = pad
        width = max(map(len, rows))
        ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows], device=self.network.device)
        lengths = torch.tensor([len(row) for row in rows], device=ids.device)
        mask = torch.arange(width, device=ids.device) < lengths[:, None]
        return {"input_ids": ids, "attention_mask": mask.long()}
