"""What Open WebUI exports: chats, of one user or of all, and ratings with a copy of their chat.

{"id": …, "user_id": …, "chat": {"models": […], "history": {"currentId": "c", "messages": {"c": {"id": "c", "parentId": "b",
    "role": "assistant", "content": …, "model": …, "annotation": {"rating": 1}}}}}}
{"type": "rating", "data": {"rating": -1}, "meta": {"message_id": "c"}, "snapshot": {"chat": {as above}}}
"""

import re
from collections.abc import Iterator
from functools import partial
from typing import Any

from wildreward.dataset_builder.sources.layouts import Layout, at, each
from wildreward.dataset_builder.sources.tree import Message, Node, conversations

_DETAILS = re.compile(r'<details type="reasoning".*?</details>\s*', re.S)  # how thinking is kept in the text


def chats(record: dict) -> Iterator[dict]:
    """The path that the user kept, and what was generated again. Ratings stand at the answers."""
    rated = {_name(at(record, "meta.message_id")): at(record, "data.rating")}
    chat = at(record, "snapshot.chat") if "snapshot" in record else record
    found = at(chat, "chat.history.messages")
    nodes = [
        Node(message.get("id"), message.get("parentId"), [_message(message, rated)], message.get("modelIdx"))
        for message in (found.values() if isinstance(found, dict) else ())
        if isinstance(message, dict)
    ]
    leaf, name = at(chat, "chat.history.currentId"), at(chat, "id") or record.get("id")
    models = at(chat, "chat.models")
    for row in conversations(nodes, name, leaf):
        used = [message["model"] for message in row["messages"] if message.get("model")]
        yield {
            **row,
            "user": at(chat, "user_id") or record.get("user_id"),
            "model": used[-1] if used else models[0] if isinstance(models, list) and models else None,
        }


def _message(message: dict, rated: dict[Any, Any]) -> Message:
    content = message.get("content")
    rating = rated.get(_name(message.get("id")) or "") or at(message, "annotation.rating")
    files = message.get("files")
    if isinstance(content, str):
        content = _DETAILS.sub("", content) if "<details" in content else content
        if isinstance(files, list) and files:
            content = [
                *({"type": str(at(file, "type") or "file")} for file in files),
                {"type": "text", "text": content},
            ]
    found = {"role": message.get("role"), "content": content, "model": message.get("model")}
    return found | {"rating": {1: "up", -1: "down"}.get(_name(rating), rating)} if rating else found


def _name(value: Any) -> Any:
    return value if isinstance(value, str | int | float) else None


OPEN_WEBUI = Layout(
    name="openwebui",
    required=("chat.history.messages|snapshot.chat.chat.history.messages",),
    convert=partial(each, chats),
    more=("id", "user_id", "chat", "meta", "data", "snapshot"),
)
