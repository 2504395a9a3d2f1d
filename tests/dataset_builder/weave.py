"""Weaves into plain chats what logs of agents and reasoning models hold: a seeded script, so that each log is the same again.

python -m tests.dataset_builder.weave CHATS.jsonl WOVEN.jsonl [--seed 0]
"""

import argparse
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

Messages = list[dict[str, Any]]

NAMES = {
    "user": ("human", "Human", "USER", "prompter"),
    "assistant": ("ai", "model", "AI", "gpt"),
    "system": ("developer",),
}
REASONING = "The user wants something.\n\nI had better think: is it <b>hard</b>? No, not at all."
THOUGHTS = (
    "<think>{}</think>{}",
    "<think>\n{}\n</think>\n\n{}",
    "{}\n</think>\n\n{}",
    "[THINK]{}[/THINK]{}",
    "<|channel|>analysis<|message|>{}<|end|><|start|>assistant<|channel|>final<|message|>{}<|return|>",
)
CALL = {"id": "1", "type": "function", "function": {"name": "search", "arguments": '{"q": "tides"}'}}


class Woven(NamedTuple):
    """A chat with something woven in.

    Attributes:
        messages: the chat.
        kind: what was done to it.
        lost: user messages, by number from 0, whose turn nobody could count any more.
    """

    messages: Messages
    kind: str
    lost: frozenset[int] = frozenset()


def parts(messages: Messages, draw: random.Random) -> Messages:
    """Each text as one part, or as several of one text."""
    woven = []
    for message in messages:
        kind = draw.choice(["text", "output_text" if message["role"] == "assistant" else "input_text"])
        text, cuts = message["content"], sorted(draw.sample(range(len(message["content"]) + 1), draw.choice([0, 1])))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        woven.append(message | {"content": [{"type": kind, "text": piece} for piece in pieces]})
    return woven


def roles(messages: Messages, draw: random.Random) -> Messages:
    """Other names of the roles, one a chat."""
    names = {role: draw.choice(names) for role, names in NAMES.items()}
    return [message | {"role": names.get(message["role"], message["role"])} for message in messages]


def thoughts(messages: Messages, draw: random.Random) -> Messages:
    """Reasoning before each answer, in the text or beside it."""
    form = draw.choice([*THOUGHTS, None])

    def with_thought(message: dict[str, Any]) -> dict[str, Any]:
        if message["role"] != "assistant":
            return message
        if form is None:
            return message | {"reasoning_content": REASONING}
        return message | {"content": form.format(REASONING, message["content"])}

    return [with_thought(message) for message in messages]


def tools(messages: Messages, draw: random.Random) -> Messages:
    """Calls and results before an answer, in the forms of three APIs."""
    place = draw.choice([place for place, message in enumerate(messages) if message["role"] == "assistant"])
    results = [
        [
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "1", "content": "high at noon " * draw.randrange(1, 900)},
        ],
        [
            {"role": "assistant", "content": [{"type": "tool_use", "name": "search", "input": {"q": "tides"}}]},
            {"role": "user", "content": [{"type": "tool_result", "content": [{"type": "text", "text": "noon"}]}]},
        ],
        [
            {"role": "assistant", "content": "Let me look.", "tool_calls": [CALL]},
            {"role": "function", "name": "search", "content": '{"high": "noon"}'},
            {"role": "assistant", "content": "", "tool_calls": [CALL]},
            {"role": "tool", "content": ""},
        ],
    ]
    return [*messages[:place], *draw.choice(results), *messages[place:]]


def repeated(messages: Messages, draw: random.Random) -> Messages:
    """A message of the user, sent twice."""
    place = draw.choice([place for place, message in enumerate(messages) if message["role"] == "user"])
    return [*messages[:place], messages[place], *messages[place:]]


def system(messages: Messages, draw: random.Random) -> Messages:
    """A note in the middle."""
    place = draw.randrange(1, len(messages))
    return [*messages[:place], {"role": "system", "content": "It is Monday now."}, *messages[place:]]


def nulls(messages: Messages, draw: random.Random) -> Messages:
    """Empty fields, as parquet gives them."""
    empty = {"tool_calls": None, "function_call": None, "reasoning": None, "refusal": None, "parts": None, "name": None}
    return [empty | message for message in messages]


HARMLESS: dict[str, Callable[[Messages, random.Random], Messages]] = {
    each.__name__: each for each in (thoughts, parts, repeated, tools, system, roles, nulls)
}
# These say something: it is seen in the history, or before the answer.
SAYS_SOMETHING = {"tools", "system"}


def unreadable(messages: Messages, draw: random.Random) -> Woven:
    """A message of no known role between two others, or an answer that is not there."""
    if draw.random() < 0.5:
        place = draw.randrange(1, len(messages))
        woven = [*messages[:place], {"role": "narrator", "content": "Meanwhile …"}, *messages[place:]]
        touched = place - 1
    else:
        place = draw.choice([place for place, message in enumerate(messages) if message["role"] == "assistant"])
        woven = [*messages[:place], {"role": "assistant", "content": None}, *messages[place + 1 :]]
        touched = place
    asked = sum(message["role"] == "user" for message in messages[: touched + 1]) - 1
    return Woven(woven, "unreadable", frozenset([asked]))


def weave(messages: Messages, draw: random.Random) -> Woven:
    """Any of the harmless oddities together, or (one chat in twenty) something that cannot be read."""
    if draw.random() < 0.05:
        return unreadable(messages, draw)
    # in this order: each knows what those before it make
    kinds = [kind for kind in HARMLESS if draw.random() < 0.4]
    for kind in kinds:
        messages = HARMLESS[kind](messages, draw)
    return Woven(messages, "+".join(kinds) or "plain")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("chats", type=Path)
    parser.add_argument("woven", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    with open(options.chats) as chats, open(options.woven, "w") as woven:
        for row in map(json.loads, chats):
            woven.write(
                json.dumps(row | {"messages": weave(row["messages"], draw).messages}, ensure_ascii=False) + "\n"
            )


if __name__ == "__main__":
    main()
