"""A policy trained by DPO as a reward model: β times the log-ratio of policy and reference, summed over the answer's tokens.

Rafailov et al. 2023 (arXiv 2305.18290): what DPO optimises is a Bradley-Terry model of exactly this reward, up to a constant of
the prompt; so answers to one prompt can be compared by it, answers to two prompts cannot.
"""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from jinja2 import TemplateError
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM

from wildreward.common.chat import read_all
from wildreward.common.errors import UserError
from wildreward.common.lookup import hub_commit, load_error_message
from wildreward.common.names import public_name
from wildreward.modeling_wildreward.loading import load_whole
from wildreward.scoring.classifier import named_tokenizer
from wildreward.scoring.local import LocalScorer, folder_fingerprint
from wildreward.scoring.protocol import Conversation, Scored, kept
from wildreward.scoring.scorer import length_batches

logger = logging.getLogger(__name__)

MOST_TOKENS = 4096
"""Of one forward pass: each token has a logit for every piece of the vocabulary."""


class ImplicitScorer(LocalScorer):
    """A policy with its reference; the policy's tokenizer and chat template make the text of both.

    Raises:
        UserError: one of them cannot be loaded, or they have different vocabularies.
    """

    kind = "implicit"
    num_levels = None

    def __init__(
        self,
        model: str,
        commit: Any,
        reference: str,
        beta: float,
        token_budget: int,
        max_length: int,
        keep_reasoning: bool = False,
        trust_remote_code: bool = False,
        **options: Any,
    ) -> None:
        reference_commit = hub_commit(reference)
        self.policy = _causal(model, commit, trust_remote_code, options)
        self.reference = _causal(reference, reference_commit, trust_remote_code, options)
        sizes = [network.get_input_embeddings().num_embeddings for network in (self.policy, self.reference)]
        if sizes[0] != sizes[1]:
            raise UserError(
                f"{public_name(model)} has {sizes[0]} tokens and --reference {public_name(reference)} {sizes[1]}; expected the "
                "model that the policy was trained from"
            )
        self.tokenizer = named_tokenizer(model, commit, trust_remote_code=trust_remote_code)
        self.beta, self.token_budget, self.keep_reasoning = beta, min(token_budget, MOST_TOKENS), keep_reasoning
        limit = getattr(self.policy.config.get_text_config(), "max_position_embeddings", None)
        max_length = min(max_length, limit or max_length)
        identity = f"{reference}@{reference_commit.resolved}" if reference_commit else folder_fingerprint(reference)
        known_by = {"dtype": options["dtype"], "max_length": max_length, "reference": identity, "beta": beta}
        known_by |= kept(keep_reasoning)
        super().__init__(model, self.policy, max_length, commit, known_by)
        self.settings |= {"reference": public_name(reference), "beta": beta}

    def score(self, conversations: Sequence[Conversation]) -> list[Scored | None]:
        """See `Scorer`."""
        read = read_all(conversations, self.keep_reasoning)
        encoded = [self._encode(messages, index) for index, messages in enumerate(read)]
        if cut := sum(cut for _, _, cut in encoded):
            logger.warning(
                "%d of %d answers exceed %d tokens: their beginning was left out before scoring",
                cut,
                len(encoded),
                self.max_length,
            )
        scores = [0.0] * len(encoded)
        for batch in length_batches([len(ids) for ids, _, _ in encoded], self.token_budget):
            rows = [encoded[i][:2] for i in batch]
            gaps = _answer_log_probs(self.policy, rows) - _answer_log_probs(self.reference, rows)
            for position, gap in zip(batch, gaps.tolist(), strict=True):
                scores[position] = self.beta * gap
        return [Scored(score) for score in scores]

    def _encode(self, messages: Conversation, index: int) -> tuple[list[int], int, bool]:
        """Token ids, how many of them at the end are the answer's, and whether some of it are left out; what does not fit goes at the front."""
        try:
            before = self.tokenizer.apply_chat_template(list(messages[:-1]), tokenize=False, add_generation_prompt=True)
            whole = self.tokenizer.apply_chat_template(list(messages), tokenize=False)
        except TemplateError as error:
            raise ValueError(f"conversation {index}: the chat template refuses it: {error}") from error
        shared = len(before) if whole.startswith(before) else whole.rfind(messages[-1]["content"].strip())
        if shared < 0:
            raise ValueError(f"conversation {index}: the chat template does not render the answer as it is")
        # Prompt and answer apart, as the policy read the one and wrote the other.
        prompt, answer = (self._ids(text) for text in (whole[:shared], whole[shared:]))
        ids = [*prompt, *answer][-self.max_length :]
        return (
            ids,
            min(len(answer), len(ids) - 1),
            len(answer) >= len(ids) > 1,
        )  # the first token of all has no probability

    def _ids(self, text: str) -> list[int]:
        text = text.encode("utf-8", "replace").decode()  # no lone surrogates
        return self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]


def open_policy(model: str, commit: Any, reference: str | None, beta: float, **options: Any) -> ImplicitScorer:
    """A policy as a reward model.

    Raises:
        UserError: there is no reference, or see `ImplicitScorer`.
    """
    if reference is None:
        raise UserError(
            f"{model} is a language model; expected a reward model, or, for a policy trained by DPO, --reference with the model "
            "it was trained from"
        )
    return ImplicitScorer(model, commit, reference, beta, **options)


def _causal(model: str, commit: Any, trust_remote_code: bool, options: dict[str, Any]) -> Any:
    try:
        network, _ = load_whole(
            AutoModelForCausalLM.from_pretrained,
            model,
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            revision=commit,
            **options,
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(f"{model} is not a policy that can be loaded: {load_error_message(model, error)}") from error
    return network.eval()


@torch.inference_mode()
def _answer_log_probs(network: Any, rows: Sequence[tuple[list[int], int]]) -> torch.Tensor:
    """(B,) log-probability of each row's last tokens, as many as it says, given those before."""
    width = max(len(ids) for ids, _ in rows)
    pad = rows[0][0][0]  # behind the mask, so that it does not matter which
    tokens = torch.tensor([ids + [pad] * (width - len(ids)) for ids, _ in rows], device=network.device)  # (B, T)
    ends = torch.tensor([len(ids) for ids, _ in rows], device=tokens.device)
    counts = torch.tensor([count for _, count in rows], device=tokens.device)
    places = torch.arange(width, device=tokens.device)
    logits = network(input_ids=tokens, attention_mask=(places < ends[:, None]).long()).logits[:, :-1].float()
    chosen = logits.gather(2, tokens[:, 1:, None])[..., 0] - logits.logsumexp(dim=2)  # (B, T-1), of token t+1
    following = places[1:]
    answer = (following < ends[:, None]) & (following >= (ends - counts)[:, None])
    return (chosen * answer).sum(dim=1).double().cpu()
