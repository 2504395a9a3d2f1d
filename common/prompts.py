"""A prompt and an answer to it, each a text or a list of messages (TRL's formats), as one conversation."""

from typing import Any

from wildreward.common.chat import Message, read_messages
from wildreward.common.errors import described


def read_prompt(value: Any, name: str = "prompt") -> list[Message]:
    """A prompt as messages: a text is one user message; a list of messages stays, and must be waiting for an answer.

    Raises:
        ValueError: it is neither, naming `name`.
    """
    if not isinstance(value, list):
        if not isinstance(value, str) or not value:
            raise ValueError(f"{name} is {described(value)}; expected a text")
        return [{"role": "user", "content": value}]
    messages = read_messages(value, name, keep_reasoning=True)
    roles = [m["role"] for m in messages]
    if "user" not in roles or roles[-1] not in ("user", "tool"):
        raise ValueError(
            f"{name} has messages of {', '.join(roles) or 'nobody'}; expected the user's last, to be answered"
        )
    return messages


def read_answer(prompt: list[Message], value: Any, name: str) -> list[Message]:
    """The conversation that an answer makes with its prompt; an answer in messages may repeat the prompt.

    Raises:
        ValueError: it is neither a text nor messages, or begins another conversation, naming `name`.
    """
    if isinstance(value, str):
        return [*prompt, {"role": "assistant", "content": value}]
    messages = read_messages(value, name, keep_reasoning=True)
    if not messages:
        raise ValueError(f"{name} has no messages; expected the assistant's answer")
    if messages[: len(prompt)] == prompt or (len(prompt) == 1 and prompt[0] in messages[:-1]):
        return messages
    if messages[0]["role"] in ("user", "system"):
        raise ValueError(f"{name} is a conversation of its own, which does not begin with the prompt")
    return [*prompt, *messages]
