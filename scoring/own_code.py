"""Reward models that come with code of their own, run only where that is asked for: value heads, several objectives.

What such a model returns is up to its author. It is tried once, on two equal rows: the score is the one tensor with one number a
row. Which token its code reads behind padding is unknown, too, so that rows of unequal length never share a batch.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModel, AutoModelForSequenceClassification

from wildreward.common.chat import read_all
from wildreward.common.errors import UserError
from wildreward.common.hashing import file_sha256
from wildreward.common.lookup import load_error_message
from wildreward.common.names import public_name
from wildreward.modeling_wildreward.loading import load_whole
from wildreward.scoring.classifier import Classifier, named_tokenizer
from wildreward.scoring.local import LocalScorer
from wildreward.scoring.protocol import Conversation, Scored, kept
from wildreward.scoring.scorer import length_batches

logger = logging.getLogger(__name__)

FIELDS = ("score", "rewards", "logits")
"""Where an output with names has its score, in this order; several objectives and their sum have names of their own."""
TRIAL = ({"role": "user", "content": "Name a river in France."}, {"role": "assistant", "content": "The Loire."})


def own_class(config: Any) -> Any:
    """The Auto class under which a configuration names a reward model's own code; None where it names none."""
    named = getattr(config, "auto_map", None) or {}
    return next((auto for auto in (AutoModelForSequenceClassification, AutoModel) if auto.__name__ in named), None)


class OwnCodeScorer(LocalScorer):
    """A model with its own code; its tokenizer's chat template renders the text.

    Raises:
        UserError: it cannot be loaded, or does not give one number a row.
    """

    kind = "own-code"
    num_levels = None

    def __init__(
        self,
        model: str,
        commit: Any,
        config: Any,
        token_budget: int,
        max_length: int,
        keep_reasoning: bool = False,
        **options: Any,
    ) -> None:
        auto = own_class(config)
        try:
            network, _ = load_whole(
                auto.from_pretrained, model, use_safetensors=True, trust_remote_code=True, revision=commit, **options
            )
        except (OSError, ValueError, SafetensorError) as error:
            raise UserError(
                f"{model} is not a reward model that can be loaded: {load_error_message(model, error)}"
            ) from error
        tokenizer = named_tokenizer(model, commit, trust_remote_code=True)
        self.classifier = Classifier(model, network.config, tokenizer, max_length, own_code=True)
        self.network, self.token_budget, self.keep_reasoning = network.eval(), token_budget, keep_reasoning
        self.read_from = self._find_score(public_name(model))
        code = {
            path.name: file_sha256(path) for path in sorted(Path(model).glob("*.py"))
        }  # of the Hub, the commit says it
        known_by = {"dtype": options["dtype"], "max_length": self.classifier.max_length, "code": code}
        super().__init__(model, network, self.classifier.max_length, commit, known_by | kept(keep_reasoning))
        self.settings |= {"read_from": self.read_from}

    def score(self, conversations: Sequence[Conversation]) -> list[Scored | None]:
        """See `Scorer`."""
        rows = self.classifier.encode(read_all(conversations, self.keep_reasoning))
        scores = [float("nan")] * len(rows)
        for batch in length_batches([len(row) for row in rows], self.token_budget, slack=0):
            found = _named(self._forward([rows[i] for i in batch]))[self.read_from]
            for position, value in zip(batch, found.float().reshape(len(batch)).tolist(), strict=True):
                scores[position] = value
        return [Scored(score) for score in scores]

    @torch.inference_mode()
    def _forward(self, rows: list[list[int]]) -> Any:
        ids = torch.tensor(rows, device=self.network.device)  # (B, T), all of one length
        return self.network(input_ids=ids, attention_mask=torch.ones_like(ids))

    def _find_score(self, name: str) -> str:
        """Where in the output the score is.

        Raises:
            UserError: nowhere, or in several places, naming what there is.
        """
        (row,) = self.classifier.encode([TRIAL])
        tensors = _named(self._forward([row, row]))
        single = [key for key, tensor in tensors.items() if tensor.shape in ((2,), (2, 1))]
        known = [key for key in FIELDS if key in single] or [key for key in single if key.isdecimal()]
        if not known or (known[0] not in FIELDS and len(known) > 1):
            shapes = ", ".join(f"{key} {tuple(tensor.shape)}" for key, tensor in tensors.items()) or "no tensor"
            raise UserError(
                f"the code of {name} gives {shapes} for 2 rows of {len(row)} tokens; expected one number a row in "
                f"{', '.join(FIELDS[:-1])} or {FIELDS[-1]}, or in one place of a tuple"
            )
        return known[0]


def _named(output: Any) -> dict[str, torch.Tensor]:
    """The tensors of numbers in an output, by their name, or by their place in a tuple."""
    if isinstance(output, torch.Tensor):
        output = (output,)
    pairs = output.items() if isinstance(output, dict) else enumerate(output)
    return {str(key): value for key, value in pairs if isinstance(value, torch.Tensor) and value.is_floating_point()}
