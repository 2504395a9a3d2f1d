"""A plain sequence classifier without its weights: what it reads of a conversation, and what its logits say.

Shared by whoever runs one here (`local.py`) and whoever asks an engine that does (`remote.py`). There are two kinds: a
Bradley-Terry model, whose one logit is the score, and what `wildreward export` makes of a reward model, whose
configuration says how to come from the logits to the score (`wildreward_form`, `_thresholds` and `_temperatures`).
"""

import logging
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from jinja2 import TemplateError

from wildreward.common.errors import UserError
from wildreward.common.lookup import hub_commit, load_error_message
from wildreward.modeling_wildreward.template import encode_batch
from wildreward.scoring.limited_template import load_tokenizer
from wildreward.scoring.protocol import Conversation, Scored

logger = logging.getLogger(__name__)

HEADS = {"scalar": "coral", "thresholds": "independent"}
"""The head that a model had before it was exported to a form."""


class Classifier:
    """Input and output of a classifier.

    Args:
        name: folder or Hub id.
        config: its configuration.
        tokenizer: its tokenizer, see `named_tokenizer`.
        max_length: longest input in tokens; an export's tokenizer says its own.
        own_code: what it returns is read by who runs it, whatever its labels are.

    Raises:
        UserError: several labels, and no `wildreward_form` that says what they mean; or damaged numbers.
    """

    def __init__(self, name: str, config: Any, tokenizer: Any, max_length: int, own_code: bool = False) -> None:
        if not own_code:
            check_labels(name, config)
        self.tokenizer, self.num_labels = tokenizer, config.num_labels
        self.form = getattr(config, "wildreward_form", None)
        if self.form is not None:
            self.biases, self.temperatures = _calibration(name, config)
            max_length = tokenizer.model_max_length
        limit = getattr(config.get_text_config(), "max_position_embeddings", None)
        self.max_length = min(max_length, limit) if limit and limit > 0 else max_length
        self.num_levels = None if self.form is None else len(self.biases) + 1
        self._pad, self._decoder = pad_token(config), is_decoder(config)
        self._start, self._end = _frame_ids(tokenizer)

    @property
    def known_by(self) -> dict[str, Any]:
        """What scores depend on besides weights and tokens."""
        if self.form is None:
            return {"max_length": self.max_length, "cut": "after the start"}
        return {"max_length": self.max_length, "biases": self.biases, "temperatures": self.temperatures}

    def encode(self, conversations: Sequence[Conversation]) -> list[list[int]]:
        """Token ids of conversations, each up to the token that its class reads.

        Raises:
            ValueError: a conversation cannot be rendered; the message names it.
        """
        if self.form is not None:
            encoded = encode_batch(self.tokenizer, conversations, self.max_length)
            rows, cut, lost = [row.input_ids for row in encoded], sum(row.cut_response for row in encoded), "middle"
        else:
            pairs = [self._encode(messages, index) for index, messages in enumerate(conversations)]
            rows, cut, lost = [ids for ids, _ in pairs], sum(cut for _, cut in pairs), "beginning"
        if cut:
            logger.warning(
                "%d of %d answers exceed %d tokens: their %s was left out before scoring",
                cut,
                len(rows),
                self.max_length,
                lost,
            )
        return [self._read_to_the_end(ids) for ids in rows]

    def as_text(self, ids: Sequence[int], index: int) -> str:
        """The text that a tokenizer which adds its special tokens itself reads as these ids, for the conversation `index`.

        Raises:
            ValueError: there is none.
        """
        inside = ids[len(self._start) : len(ids) - len(self._end)]
        text = self.tokenizer.decode(inside, clean_up_tokenization_spaces=False)
        if self.tokenizer(text, verbose=False)["input_ids"] != list(ids):
            raise ValueError(f"conversation {index}: no text makes the server read its {len(ids)} tokens")
        return text

    def scored(self, logits: Sequence[Sequence[float]]) -> list[Scored]:
        """What (B, labels) logits say."""
        if self.form is None:
            return [Scored(row[0]) for row in logits]
        import torch

        from wildreward.modeling_wildreward.ordinal import expected_level, level_probs

        of_thresholds = torch.tensor(logits, dtype=torch.float64).reshape(len(logits), self.num_labels)
        of_thresholds = of_thresholds + torch.tensor(self.biases, dtype=torch.float64)  # (B, K - 1)
        read = (of_thresholds, HEADS[self.form], self.temperatures)
        rows = zip(expected_level(*read).tolist(), level_probs(*read).tolist(), strict=True)
        return [Scored(score, tuple(levels)) for score, levels in rows]

    def _encode(self, messages: Conversation, index: int) -> tuple[list[int], bool]:
        """Token ids of a conversation, and whether its answer lost its beginning."""
        try:
            text = self.tokenizer.apply_chat_template(list(messages), tokenize=False)
        except TemplateError as error:  # such as: no system messages
            raise ValueError(f"conversation {index}: the chat template refuses it: {error}") from error
        text = text.encode("utf-8", "replace").decode()  # no lone surrogates
        ids = self._ids(text)
        if len(ids) <= self.max_length:
            return ids, False
        # What does not fit goes at the front, behind the start token: the answer is cut last.
        start = text.rfind(messages[-1]["content"].encode("utf-8", "replace").decode().strip())
        kept = self._start if ids[: len(self._start)] == self._start else []
        cut = kept + ids[len(kept) - self.max_length :]
        return cut, len(self._ids(text[max(start, 0) :])) > self.max_length

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]

    def _read_to_the_end(self, ids: list[int]) -> list[int]:
        """A decoder's row up to the token that its class reads: the last one that is not the model's padding token.

        What follows it cannot be seen from there, and with padding behind it another token would be read.
        """
        end = len(ids)
        while self._decoder and end > 1 and ids[end - 1] == self._pad:
            end -= 1
        return ids[:end]


def check_labels(name: str, config: Any) -> None:
    """Refuse a classifier whose labels nobody can read as one score (`UserError`)."""
    if config.num_labels != 1 and getattr(config, "wildreward_form", None) is None:
        raise UserError(
            f"{name} is a {config.model_type} model with {config.num_labels} labels; expected a WildReward model or a "
            "classifier with one label, or an export (wildreward convert reads one with K-1 threshold labels)"
            + own_code_hint(config)
        )


def own_code_hint(config: Any) -> str:
    """What to add to a refusal of a model whose configuration names code of its own, which was not run."""
    return "; it names code of its own, which --trust-remote-code runs" if getattr(config, "auto_map", None) else ""


def pad_token(config: Any) -> int | None:
    """The model's padding token, whatever the tokenizer's is; None where it has none."""
    text = config.get_text_config()
    pad = text.pad_token_id
    return pad if pad is not None and 0 <= pad < text.vocab_size else None


def is_decoder(config: Any) -> bool:
    """Whether a classifier reads the last token, and not the first or a mean."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    return config.model_type not in MODEL_FOR_MASKED_LM_MAPPING_NAMES


def named_tokenizer(name: str, revision: str | None = None, **options: Any) -> Any:
    """The tokenizer of a folder or Hub id.

    Raises:
        UserError: there is none, or it has no chat template that can be used.
    """
    try:
        return load_tokenizer(name, revision=hub_commit(name, revision), **options)
    except (OSError, ValueError) as error:
        raise UserError(f"the tokenizer of {name} cannot be loaded: {load_error_message(name, error)}") from error


def _frame_ids(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Ids that a tokenizer itself puts before and after a text."""
    bare, full = (tokenizer("a", add_special_tokens=added)["input_ids"] for added in (False, True))
    at = next(start for start in range(len(full)) if full[start : start + len(bare)] == bare)
    return full[:at], full[at + len(bare) :]


def _calibration(name: str, config: Any) -> tuple[list[float], list[float]]:
    """Biases and temperatures of the thresholds, (K - 1) each."""
    form, labels = config.wildreward_form, config.num_labels
    biases, temperatures = (getattr(config, f"wildreward_{what}", None) for what in ("thresholds", "temperatures"))
    numbers = all(
        isinstance(values, list) and all(isinstance(v, int | float) and math.isfinite(v) for v in values)
        for values in (biases, temperatures)
    )
    fits = numbers and len(biases) == len(temperatures) > 0 and min(temperatures) > 0
    fits = fits and labels == (1 if form == "scalar" else len(biases))
    falling = fits and all(one >= other for one, other in pairwise(biases))
    if form not in HEADS or not falling:
        raise UserError(
            f"{name}/config.json says wildreward_form {form!r}, wildreward_thresholds {biases!r} and wildreward_temperatures "
            f"{temperatures!r} of {labels} labels; expected what `wildreward export` writes: scalar and one label, or "
            "thresholds and as many labels, with as many falling thresholds as temperatures above 0; export the model again"
        )
    return biases, temperatures
