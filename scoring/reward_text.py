"""The reward model's input as plain text: rendered without a tokenizer, and read back into messages."""

import re
from typing import Any

Messages = list[dict[str, Any]]

HEADER = "Rate how well the last response serves the user.\n"

_SECTION = re.compile(r"^<(history|query|response|user|assistant|system|tool)>$", re.MULTILINE)


def render_reward_text(messages: Messages) -> str:
    """The reward model's input text without a tokenizer's special tokens around it."""
    from importlib import resources

    from transformers.utils.chat_template_utils import render_jinja_template

    from wildreward.modeling_wildreward.template import SECTIONS, split_marks

    folder = resources.files("wildreward.modeling_wildreward")
    template = folder.joinpath("reward_template.jinja").read_text(encoding="utf-8")
    rendered, _ = render_jinja_template(
        conversations=[messages], chat_template=template, start="", end="", reserved=split_marks(SECTIONS)
    )
    return rendered[0]


def parse_reward_text(text: str) -> Messages:
    """The messages of a text that [`render_reward_text`] made: message text cannot open a section, so there is one way.

    Calls of tools come back as text of their message.

    Raises:
        ValueError: it is no such text.
    """
    before, *parts = _SECTION.split(text)
    names, bodies = parts[::2], [body.strip() for body in parts[1::2]]
    ordered = names[-1:] == ["response"] and names.count("response") == 1 and names.count("query") <= 1
    if before != HEADER or not ordered:
        raise ValueError(
            "the text is not a reward model's input (its first line, then <history>, <query> and <response>); "
            "send `messages` instead"
        )
    roles = {"query": "user", "response": "assistant"}
    sections = zip(names, bodies, strict=True)
    return [{"role": roles.get(name, name), "content": body} for name, body in sections if name != "history"]
