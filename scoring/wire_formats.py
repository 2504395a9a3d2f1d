"""What servers are sent and where the scores are in their answers: one entry a wire format, chosen by the URL's path.

    …/score        wildreward serve   {"messages": [conversation, …]}           {"scores": […], "level_probs": [[…], …]}
    …/get_reward   OpenRLHF's form    {"query": [text, …]}                      {"rewards": […]}
    …/classify     vLLM               {"input": [token ids, …]}                 {"data": [{"probs": [logit, …]}, …]}
    …/classify     SGLang             {"input_ids": [token ids, …]}             [{"embedding": [logit, …]}, …]
    …/pooling      vLLM               {"input": [token ids, …]}                 {"data": [{"data": [logit, …]}, …]}
    …/predict      TEI                {"inputs": [[text], …]}                   [[{"label", "score": logit}, …], …]

A further server is one more entry; `RemoteScorer` does the asking, the retries and the checks of numbers for all of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from wildreward.common.names import source_name
from wildreward.scoring.protocol import RewardSourceError


@dataclass(frozen=True)
class WireFormat:
    """How one kind of server is asked.

    Attributes:
        server: its name, for messages.
        inputs: what it takes: `messages`; `reward_text`, the reward model's input as plain text (or a text by the chat
            template of the model that answers); or the input of the classifier that answers, as `token_ids` or as the
            `text` that it tokenizes to them.
        body: of a request, from a list of these.
        read: one value for each of them from a parsed answer: a number, a list of numbers, or None for what cannot be
            scored. What cannot be read raises or gives no list.
        answer: what is expected, for messages.
    """

    server: str
    inputs: Literal["messages", "reward_text", "token_ids", "text"]
    body: Callable[[list], dict[str, Any]]
    read: Callable[[Any], Any]
    answer: str

    @property
    def reads_logits(self) -> bool:
        """The numbers are logits of a classifier, which its configuration turns into a score."""
        return self.inputs in ("token_ids", "text")


def _score_and_levels(answer: Any) -> list[list[float] | None]:
    rows = zip(answer["scores"], answer["level_probs"], strict=True)
    return [None if score is None else [score, *levels] for score, levels in rows]


def _last_of_pooling(one: dict[str, Any]) -> list[float]:
    data = one["data"]  # of some classes one row a token; the last token has seen all
    return data[-1] if isinstance(data[0], list) else data


def _in_order_of_labels(predictions: list[dict[str, Any]]) -> list[float]:
    return [one["score"] for one in sorted(predictions, key=lambda one: one["label"])]  # TEI: the likeliest first


# `use_activation`: logits, and not what the engine would make of them. The template has written all special tokens.
_VLLM = {"use_activation": False, "add_special_tokens": False}
_SERVE = WireFormat(
    "wildreward serve",
    "messages",
    lambda chats: {"messages": chats},
    _score_and_levels,
    '{"scores": […], "level_probs": […]}',
)
_OPENRLHF = WireFormat(
    "OpenRLHF", "reward_text", lambda texts: {"query": texts}, lambda answer: answer["rewards"], '{"rewards": […]}'
)
_VLLM_CLASSIFY = WireFormat(
    "vLLM",
    "token_ids",
    lambda ids: {"input": ids, **_VLLM},
    lambda answer: [one["probs"] for one in answer["data"]],
    '{"data": [{"probs": […]}, …]}',
)
_VLLM_POOLING = WireFormat(
    "vLLM",
    "token_ids",
    lambda ids: {"input": ids, **_VLLM},
    lambda answer: [_last_of_pooling(one) for one in answer["data"]],
    '{"data": [{"data": […]}, …]}',
)
_SGLANG = WireFormat(
    "SGLang",
    "token_ids",
    lambda ids: {"input_ids": ids},
    lambda answer: [one["embedding"] for one in answer],
    '[{"embedding": […]}, …]',
)
_TEI = WireFormat(
    "TEI",
    "text",
    lambda texts: {"inputs": [[text] for text in texts], "raw_scores": True},
    lambda answer: [_in_order_of_labels(one) for one in answer],
    '[[{"label", "score"}, …], …]',
)

BY_PATH = {
    "score": (_SERVE,),
    "get_reward": (_OPENRLHF,),
    "classify": (_VLLM_CLASSIFY, _SGLANG),
    "pooling": (_VLLM_POOLING,),
    "predict": (_TEI,),
}


def formats_of(url: str) -> tuple[WireFormat, ...]:
    """What a URL's last part may mean; where it is none of the known ones, OpenRLHF's form. Of several, the server that
    is asked refuses all but one.

    Raises:
        RewardSourceError: an address where a score cannot be read.
    """
    path = urlsplit(url).path.rstrip("/")
    if path.endswith("/v1/classify"):
        raise RewardSourceError(
            f"{source_name(url)} is asked at /v1/classify, where SGLang answers with a softmax, which of one label is always "
            "1; expected its /classify"
        )
    return BY_PATH.get(path.rpartition("/")[2], (_OPENRLHF,))
