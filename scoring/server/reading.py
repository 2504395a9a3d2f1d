"""From a request's body to token ids: bounded, off the event loop, and a few conversations at a time."""

import asyncio
import json
import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from wildreward.common.chat import Message, read_conversation
from wildreward.common.errors import described
from wildreward.scoring.policy_text import read_policy_text
from wildreward.scoring.reward_text import HEADER, parse_reward_text
from wildreward.scoring.scorer import RewardScorer
from wildreward.scoring.server.limits import Limits

TURN_CONVERSATIONS = 16  # of a request, that are tokenized before it is another's turn
TURN_SIZE = 200_000  # likewise, in characters
MESSAGE_SIZE = 100  # characters that take as long as what is done for a message
SMALL = 64 << 10  # bytes that are parsed at once
# In JSON, the way to the next value and what shows it, and a piece of a text: bounded, for no other thread runs meanwhile
NEXT = re.compile(rb'[^\[{,"]{0,1000000}+([\[{,"]?)')
PIECE = re.compile(rb'[^"\\]{0,1000}+(?:\\.[^"\\]{0,1000}+){0,1000}+', re.DOTALL)


@dataclass(frozen=True)
class Item:
    """What a request holds for one conversation.

    Attributes:
        name: for messages, such as `query 3`.
        value: a list of messages, or a text.
        text: which of them is expected.
        prompt: what of the text the policy was given, where the request says so.
    """

    name: str
    value: Any
    text: bool = False
    prompt: str | None = None


@dataclass
class Encoded:
    """Token ids of a request's conversations, and how many messages each of them has."""

    ids: list[list[int]]
    messages: list[int]


def messages_in(body: dict[str, Any]) -> list[Item]:
    """`{"messages": [conversation, …]}`"""
    return [Item(f"messages {number}", value) for number, value in enumerate(_list_in(body, "messages"))]


def queries_in(body: dict[str, Any]) -> list[Item]:
    """`{"query": [text, …]}`, with `prompts` where they are known; or messages."""
    if "messages" in body and "query" not in body:
        return messages_in(body)
    texts = _list_in(body, "query", "messages")
    prompts = body.get("prompts")
    if prompts is None:
        prompts = [None] * len(texts)
    if not isinstance(prompts, list) or len(prompts) != len(texts):
        raise HTTPException(422, f"prompts are {described(prompts)}; expected a list of {len(texts)}, one a query")
    if wrong := next((prompt for prompt in prompts if not isinstance(prompt, str | None)), None):
        raise HTTPException(422, f"a prompt is {described(wrong)}; expected text")
    pairs = enumerate(zip(texts, prompts, strict=True))
    return [Item(f"query {number}", text, True, prompt) for number, (text, prompt) in pairs]


def inputs_in(body: dict[str, Any]) -> list[Item]:
    """vLLM's `{"input": text or [text, …]}`, or `{"messages": conversation}`."""
    if "messages" in body and "input" not in body:
        return [Item("messages", body["messages"])]
    if isinstance(body.get("input"), str):
        return [Item("input", body["input"], True)]
    return [Item(f"input {number}", value, True) for number, value in enumerate(_list_in(body, "input", "messages"))]


def _list_in(body: dict[str, Any], *keys: str) -> list[Any]:
    given = [key for key in keys if key in body]
    if len(given) != 1 or not isinstance(body[given[0]], list):
        raise HTTPException(422, f"the body is {described(body)}; expected one list: {' or '.join(keys)}")
    return body[given[0]]


class Reader:
    """Reads bodies and tokenizes conversations, each in a thread of its own."""

    def __init__(self, scorer: RewardScorer, limits: Limits) -> None:
        self.scorer, self.limits = scorer, limits
        self.parser = ThreadPoolExecutor(1)  # one large body at a time
        self.tokenizer = ThreadPoolExecutor(1)  # a tokenizer is not made for several threads
        self.surroundings = _surroundings(scorer)

    def close(self) -> None:
        self.parser.shutdown(cancel_futures=True)
        self.tokenizer.shutdown(cancel_futures=True)

    async def parsed(self, text: bytes) -> dict[str, Any]:
        """The object that a body is."""
        most = self.limits.max_values
        if len(text) <= SMALL:
            return _parse(text, most)
        return await asyncio.wrap_future(self.parser.submit(_parse, text, most))

    async def encoded(self, request: Request, items: list[Item]) -> Encoded:
        """Token ids of all conversations of a request, a few at a time."""
        encoded = Encoded([], [])
        while len(encoded.ids) < len(items):
            try:
                part = await unless_gone(request, self.tokenizer.submit(self._encode, items, len(encoded.ids)))
            except ValueError as error:
                raise HTTPException(422, str(error)) from error
            encoded.ids += part.ids
            encoded.messages += part.messages
        return encoded

    def _encode(self, items: list[Item], start: int) -> Encoded:
        """The items from `start` on: as many as are a request's turn."""
        conversations: list[list[Message]] = []
        size = 0
        for item in items[start : start + TURN_CONVERSATIONS]:
            conversation, characters = self._read(item)
            conversations.append(conversation)
            size += characters + MESSAGE_SIZE * len(conversation)
            if size > TURN_SIZE:
                break
        lengths = [len(conversation) for conversation in conversations]
        try:
            return Encoded(self.scorer.encode(conversations), lengths)
        except ValueError:
            for item, conversation in zip(items[start:], conversations, strict=False):
                try:
                    self.scorer.encode([conversation])
                except ValueError as error:
                    raise ValueError(f"{item.name}: {str(error).removeprefix('conversation 0: ')}") from error
            raise

    def _read(self, item: Item) -> tuple[list[Message], int]:
        """A conversation within the limits, and its characters."""
        most_characters, most_messages = self.limits.max_characters, self.limits.max_messages
        messages, own = item.value, False
        if item.text:
            if not isinstance(item.value, str):
                raise ValueError(f"{item.name} is {described(item.value)}; expected text")
            _check_size(item.name, len(item.value), most_characters, "characters")
            _check_size(f"the prompt of {item.name}", len(item.prompt or ""), most_characters, "characters")
            messages, own = self._from_text(item)
        if isinstance(messages, list):
            _check_size(item.name, len(messages), most_messages, "messages")
        # what to do with reasoning is the scorer's to decide
        conversation = messages if own else read_conversation(messages, item.name, keep_reasoning=True)
        characters = sum(len(message["content"] or "") for message in conversation)
        _check_size(item.name, characters, most_characters, "characters")
        _check_size(item.name, len(conversation), most_messages, "messages")
        return conversation, characters

    def _from_text(self, item: Item) -> tuple[list[Message], bool]:
        """Messages of a text, and whether it is the reward model's own input, not a policy's."""
        before, after = self.surroundings
        text = item.value.removeprefix(before).removesuffix(after)
        own = text.startswith(HEADER)
        try:
            return parse_reward_text(text) if own else read_policy_text(item.value, item.prompt), own
        except ValueError as error:
            raise ValueError(f"{item.name}: {error}") from error


def _surroundings(scorer: RewardScorer) -> tuple[str, str]:
    """What this tokenizer's template puts before and after the reward model's input text; another template: nothing."""
    answer = "·"
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": answer}]
    text = scorer.tokenizer.apply_chat_template(messages, tokenize=False)
    if HEADER not in text:
        return "", ""
    return text[: text.index(HEADER)], text[text.rindex(answer) + len(answer) :]


async def unless_gone(request: Request, job: Future) -> Any:
    """What the job gives. A job that nobody waits for is cancelled.

    Raises:
        ClientDisconnect: the client leaves before it is done.
    """
    result, gone = asyncio.wrap_future(job), asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait((result, gone), return_when=asyncio.FIRST_COMPLETED)
        if not result.done():
            raise ClientDisconnect
        return result.result()
    finally:
        result.cancel()
        gone.cancel()


def _check_size(name: str, found: int, most: int, what: str) -> None:
    if found > most:
        raise HTTPException(413, f"{name} has {found} {what}; a conversation may have at most {most}")


def _values(text: bytes) -> Iterator[int]:
    """Where texts, lists, objects and commas are in JSON."""
    at = 0
    while at < len(text):
        found = NEXT.match(text, at)
        assert found is not None
        at = found.end()
        if found[1]:
            yield at
        if found[1] == b'"':
            while (piece := PIECE.match(text, at)) and piece.end() > at:
                at = piece.end()
            at += 1


def _parse(text: bytes, most: int) -> dict[str, Any]:
    if len(text) > most and sum(1 for _ in islice(_values(text), most + 1)) > most:
        raise HTTPException(413, f"the body has more than {most} values; send fewer conversations at once")
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise HTTPException(422, "the body is not JSON") from error
    if not isinstance(body, dict):
        raise HTTPException(422, f"the body is {described(body)}; expected an object")
    return body
