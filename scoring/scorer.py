"""Chat messages in, scores out: the one way that evaluation, training rewards and serving score text."""

import copy
import inspect
import logging
import os
from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import PreTrainedTokenizerBase

from wildreward.common.chat import read_all
from wildreward.common.errors import UserError
from wildreward.common.lookup import hub_commit, load_error_message
from wildreward.common.weights import check_files
from wildreward.modeling_wildreward import WildRewardForSequenceClassification, WildRewardOutput, response_mark
from wildreward.modeling_wildreward.pooling import SECTIONS
from wildreward.modeling_wildreward.template import Message, encode_batch, install_template, shared_prefix_length
from wildreward.scoring.limited_template import load_tokenizer
from wildreward.scoring.protocol import NotFinite

logger = logging.getLogger(__name__)

TOKEN_BUDGET = 16_384  # padded tokens a batch: memory is bounded whatever the lengths
MIN_SHARED_TOKENS = 32  # below this, filling a cache costs more than it saves
PADDING_SLACK = {"cpu": 128, "cuda": 2048}  # padded tokens that cost about as much as one more forward pass
RENDER_CHUNK = 1_024
HUB_OPTIONS = ("revision", "token", "cache_dir", "local_files_only")


class RewardScorer:
    """Scores conversations with a reward model. Results do not depend on batch size, order or padding side.

    Args:
        model: a reward model; it is put in evaluation mode.
        tokenizer: its tokenizer, with the reward template installed.
        token_budget: most padded tokens in one forward pass.
        keep_reasoning: judge an answer with the reasoning before it, which is taken out by default; see `common.chat`.

    Examples:
        >>> scorer = RewardScorer.from_pretrained("runs/quickstart/reward-model")
        >>> scorer.score([[{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]])
        [2.7…]
    """

    def __init__(
        self,
        model: WildRewardForSequenceClassification,
        tokenizer: PreTrainedTokenizerBase,
        token_budget: int = TOKEN_BUDGET,
        keep_reasoning: bool = False,
    ) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.token_budget, self.keep_reasoning = token_budget, keep_reasoning
        if model.config.pooling == SECTIONS and not model.config.response_mark:
            model.config.response_mark = response_mark(tokenizer)

    @classmethod
    def from_pretrained(
        cls,
        path_or_id: str | os.PathLike,
        *,
        token_budget: int = TOKEN_BUDGET,
        keep_reasoning: bool = False,
        **kwargs: Any,
    ) -> Self:
        """Load a model folder or Hub id. The package's own model class is used: only `trust_remote_code=True` runs code from there,
        that of a backbone which has some.

        Args:
            path_or_id: folder or Hub id of a WildReward model.
            token_budget, keep_reasoning: see the class.
            **kwargs: passed to the model's `from_pretrained` (`revision`, `dtype`, `device_map`, …).

        Raises:
            UserError: the folder or id holds no WildReward model, or one with files, weights or settings that are missing or
                damaged; or its chat template makes no text in bounded time and memory.
        """
        name = str(path_or_id)
        hub = {key: kwargs.pop(key) for key in HUB_OPTIONS if key in kwargs}
        try:
            hub["revision"] = hub_commit(name, **hub) or hub.get("revision")
            check_files(name)
            options = {"use_safetensors": True, "trust_remote_code": False} | hub | kwargs
            model = WildRewardForSequenceClassification.from_pretrained(name, **options)
            tokenizer = load_tokenizer(name, trust_remote_code=options["trust_remote_code"], **hub)
        except (OSError, ValueError, SafetensorError, StrictDataclassError) as error:
            raise UserError(
                f"{path_or_id} is not a WildReward model that can be loaded: {load_error_message(name, error)}"
            ) from error
        return cls(model, tokenizer, token_budget, keep_reasoning)

    def save_pretrained(self, folder: str | os.PathLike) -> None:
        """Write model, tokenizer and template to `folder`, complete for `from_pretrained` and for the Hub."""
        if not self.tokenizer.chat_template:
            install_template(self.tokenizer)
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def score(self, conversations: Sequence[Sequence[Message]]) -> list[float]:
        """Score conversations that end with the response to judge.

        Args:
            conversations: lists of `{"role", "content"}` messages, in any form that `common.chat` reads.

        Returns:
            One expected level in [1, K] for each.

        Raises:
            ValueError: a conversation cannot be rendered, or its score is not a finite number; the message names it.
        """
        return [row[0] for row in self.predict_ids(self.encode(conversations))]

    def level_probs(self, conversations: Sequence[Sequence[Message]]) -> np.ndarray:
        """(N, K) float32 calibrated probabilities of the levels; see [`score`]."""
        rows = [row[1:] for row in self.predict_ids(self.encode(conversations))]
        return np.asarray(rows, dtype=np.float32).reshape(-1, self.model.config.num_levels)

    def score_candidates(
        self, prompt: Sequence[Message], completions: Sequence[str | Sequence[Message]]
    ) -> list[float]:
        """Score several responses to one prompt; a decoder made of attention reads the prompt once for all.

        Args:
            prompt: the messages before the response.
            completions: response texts, or lists of messages that end with the assistant's.

        Returns:
            One score for each completion, equal to what [`score`] gives.
        """
        return self.score_groups([(prompt, completions)])[0]

    def score_groups(
        self, groups: Sequence[tuple[Sequence[Message], Sequence[str | Sequence[Message]]]]
    ) -> list[list[float]]:
        """[`score_candidates`] for many `(prompt, completions)` pairs, batched over the pairs."""
        return [[row[0] for row in rows] for rows in self.predict_groups(groups)]

    def predict_groups(
        self, groups: Sequence[tuple[Sequence[Message], Sequence[str | Sequence[Message]]]]
    ) -> list[list[list[float]]]:
        """As [`score_groups`], with the level distribution from the same pass: `[score, P(1), …, P(K)]` a completion."""
        sizes = [len(completions) for _, completions in groups]
        conversations = [[*prompt, *_messages(c)] for prompt, completions in groups for c in completions]
        ids = self.encode(conversations)
        rows = self._forward_sharing(ids, sizes) if self._can_share_prefix() else self.predict_ids(ids)
        ends = np.cumsum(sizes)
        return [rows[end - size : end] for size, end in zip(sizes, ends, strict=True)]

    def _encode(self, conversations: Sequence[Sequence[Message]]) -> list[list[int]]:
        encoded = encode_batch(self.tokenizer, conversations, self.model.config.max_length)
        cut = sum(row.cut_response for row in encoded)
        if cut:
            logger.warning(
                "%d of %d responses exceed %d tokens: their middle was left out before scoring",
                cut,
                len(encoded),
                self.model.config.max_length,
            )
        return [row.input_ids for row in encoded]

    def encode(self, conversations: Sequence[Sequence[Message]]) -> list[list[int]]:
        """Token ids of conversations, all of them before any compute.

        Raises:
            ValueError: a conversation cannot be rendered; the message names it.
        """
        read = read_all(conversations, self.keep_reasoning)
        return [row for chunk in _chunks(read, RENDER_CHUNK) for row in self._encode(chunk)]

    @torch.inference_mode()
    def predict_ids(self, ids: Sequence[Sequence[int]]) -> list[list[float]]:
        """Run rows of [`encode`] in batches of like length within the token budget: `[score, P(1), …, P(K)]` a row.

        Raises:
            ValueError: a score is not a finite number; the message names the rows.
        """
        results: list[list[float]] = [[]] * len(ids)
        for batch in length_batches([len(row) for row in ids], self.token_budget, self._slack()):
            input_ids, mask = self._pad([ids[i] for i in batch])
            values = _scores_and_probs(self.model(input_ids=input_ids, attention_mask=mask))
            _check_finite(values, batch)
            for position, value in zip(batch, values.tolist(), strict=True):
                results[position] = value
        return results

    @torch.inference_mode()
    def _forward_sharing(self, ids: list[list[int]], sizes: Sequence[int]) -> list[list[float]]:
        """As [`predict_ids`], for rows of which each run of `sizes` shares a prefix: the prefix fills a cache once, the rest reads it."""
        results: list[list[float]] = [[]] * len(ids)
        alone: list[int] = []
        sharing: list[tuple[int, list[int]]] = []  # (tokens shared, positions of the rows)
        start = 0
        for size in sizes:
            rows = list(range(start, start + size))
            start += size
            shared = shared_prefix_length([ids[i] for i in rows]) if size > 1 else 0
            if shared < MIN_SHARED_TOKENS:
                alone.extend(rows)
            else:
                sharing.append((shared, rows))
        # Prompts of like length fill one cache together; a quarter of the budget leaves room for the responses.
        prefixes = [shared for shared, _ in sharing]
        for window in length_batches(prefixes, self.token_budget // 4, self._slack()):
            for position, row in self._forward_window(ids, [sharing[i] for i in window]):
                results[position] = row
        for position, row in zip(alone, self.predict_ids([ids[i] for i in alone]), strict=True):
            results[position] = row
        return results

    def _forward_window(
        self, ids: list[list[int]], groups: Sequence[tuple[int, list[int]]]
    ) -> Iterator[tuple[int, list[float]]]:
        """Yield (position, result) of the rows of several groups whose prefixes are read in one batch."""
        input_ids, mask = self._pad([ids[rows[0]][:shared] for shared, rows in groups], side="left")
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        cache = self.model.model(
            input_ids=input_ids, attention_mask=mask, position_ids=positions, use_cache=True
        ).past_key_values
        members = [(group, i) for group, (_, rows) in enumerate(groups) for i in rows]
        suffixes = [ids[i][groups[group][0] :] for group, i in members]
        width = input_ids.shape[1]
        for batch in length_batches([len(s) for s in suffixes], self.token_budget, self._slack(), extra=width):
            owners = torch.tensor([members[b][0] for b in batch], device=mask.device)
            values = self._forward_suffixes(cache, mask[owners], owners, [suffixes[b] for b in batch])
            rows = [members[b][1] for b in batch]
            _check_finite(values, rows)
            yield from zip(rows, values.tolist(), strict=True)

    def _forward_suffixes(
        self, cache: Any, prefix_mask: torch.Tensor, owners: torch.Tensor, suffixes: list[list[int]]
    ) -> torch.Tensor:
        """(B, 1 + K) for the rows `prefix + suffix`, from the prefixes' cache (left untouched).

        Args:
            cache: keys and values of G prefixes.
            prefix_mask: (B, P) mask of each row's prefix.
            owners: (B,) which of the G prefixes each row continues.
            suffixes: B rows of token ids.
        """
        input_ids, mask = self._pad(suffixes, side="right")
        past = copy.deepcopy(cache)
        past.batch_select_indices(owners)
        positions = prefix_mask.sum(dim=1, keepdim=True) + torch.arange(input_ids.shape[1], device=mask.device)
        output = self.model(
            input_ids=input_ids,
            attention_mask=torch.cat([prefix_mask, mask], dim=1),
            position_ids=positions,
            past_key_values=past,
            use_cache=True,
        )
        return _scores_and_probs(output)

    def _slack(self) -> int:
        return PADDING_SLACK.get(self.model.device.type, PADDING_SLACK["cuda"])

    def _can_share_prefix(self) -> bool:
        """Only the last token of a causal decoder sees the whole text while its prefix never looks ahead; prefixes of
        different lengths need positions of their own; and a recurrent state cannot be handed out like keys and values."""
        takes_positions = "position_ids" in inspect.signature(self.model.model.forward).parameters
        model = self.model
        return model.config.pooling == "last" and model.causal and model.attends_only and takes_positions

    def _pad(self, rows: list[list[int]], side: str | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Pad rows to the longest: (B, T) ids and mask on the model's device."""
        padded = self.tokenizer.pad(
            {"input_ids": rows}, padding=True, padding_side=side, return_attention_mask=True, return_tensors="pt"
        )
        return padded["input_ids"].to(self.model.device), padded["attention_mask"].to(self.model.device)


def default_device() -> str | dict[str, str]:
    """`device_map` of a model to score with: the accelerators where there are some, of a launch with several processes
    each process its own."""
    if not torch.accelerator.is_available():
        return "cpu"
    kind, count = torch.accelerator.current_accelerator().type, torch.accelerator.device_count()
    rank = os.environ.get("LOCAL_RANK")
    if rank is None and kind == "cuda":
        return "auto"
    return {"": f"{kind}:{int(rank or 0) % count}"}


def length_batches(
    lengths: Sequence[int], token_budget: int, slack: int | None = None, extra: int = 0
) -> Iterator[list[int]]:
    """Group positions into batches of like length whose padded size stays within `token_budget`, longest first.

    Args:
        lengths: tokens of each row.
        token_budget: most padded tokens in a batch; a single row that is longer is a batch of its own.
        slack: close a batch once its padding adds up to this, since another forward pass is then cheaper; None: never.
        extra: tokens that every row takes besides its own (a cached prefix).
    """
    batch: list[int] = []
    padding = 0
    for position in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch:
            longest = lengths[batch[0]]
            padding += longest - lengths[position]
            too_large = (longest + extra) * (len(batch) + 1) > token_budget
            if too_large or (slack is not None and padding > slack):
                yield batch
                batch, padding = [], 0
        batch.append(position)
    if batch:
        yield batch


def _scores_and_probs(output: WildRewardOutput) -> torch.Tensor:
    """(B, 1 + K) on the CPU: the score and the level distribution."""
    return torch.cat([output.logits, output.level_probs], dim=1).float().cpu()


def _messages(completion: str | Sequence[Message]) -> list[Message]:
    return [{"role": "assistant", "content": completion}] if isinstance(completion, str) else list(completion)


def _chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _check_finite(values: torch.Tensor, positions: Sequence[int]) -> None:
    bad = [positions[i] for i in (~values.reshape(len(positions), -1).isfinite().all(dim=1)).nonzero().flatten()]
    if bad:
        raise NotFinite(f"the reward model gives NaN or infinity for conversations {bad[:10]}; its weights are damaged")
