"""Messages of a chat as users give them, checked and put under the roles that models know."""

from typing import Any

from wildreward.errors import described
from wildreward.roles import ROLES

Message = dict[str, Any]


def read_messages(value: Any, name: str) -> list[Message]:
    """Messages of a chat, under the roles that models know: user, assistant, system, tool.

    Raises:
        ValueError: it is no list of such messages with text, naming `name`, position, keys and types, not what they say.
    """
    if not isinstance(value, list):
        raise ValueError(f"{name} is {described(value)}; expected a list of messages")
    messages = []
    for number, message in enumerate(value, start=1):
        role, content = (message.get("role"), message.get("content")) if isinstance(message, dict) else (None, None)
        if not isinstance(role, str) or not isinstance(content, str):
            raise ValueError(f"{name}, message {number} is {described(message)}; expected role and content, both text")
        if message.get("tool_calls"):
            raise ValueError(
                f"{name}, message {number} has tool_calls, which are not read; write them into its content"
            )
        known = ROLES.get(role, role)
        if known not in (*ROLES.values(), "tool"):
            raise ValueError(f"{name}, message {number} has an unknown role; expected user, assistant, system or tool")
        messages.append({"role": known, "content": content})
    return messages
