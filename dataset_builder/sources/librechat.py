"""A conversation that LibreChat exports as JSON.

{"conversationId": …, "endpoint": …, "branches": true, "recursive": true, "messages": [{"messageId": "c",
    "parentMessageId": "b", "isCreatedByUser": false, "text": …, "content": [parts], "model": …,
    "feedback": {"rating": "thumbsUp"}, "children": [where it is recursive]}]}
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

from wildreward.dataset_builder.sources.layouts import Layout, at, each
from wildreward.dataset_builder.sources.tree import Message, Node, conversations

THUMBS = {"thumbsUp": "up", "thumbsDown": "down"}


def chats(record: dict) -> Iterator[dict]:
    """The path to the newest message, and what was generated again."""
    found = record.get("messages") or record.get("messagesTree")
    nodes = [Node(each.get("messageId"), each.get("parentMessageId"), [message(each)]) for each in _flat(found)]
    for row in conversations(nodes, record.get("conversationId")):
        models = [each["model"] for each in row["messages"] if each.get("model")]
        model = models[-1] if models else at(record, "options.model")
        yield {**row, "user": record.get("user"), "model": model}


def _flat(found: Any) -> list[dict]:
    """Messages of a list, and below them their `children`, in the order of their making."""
    waiting, flat = [*found] if isinstance(found, list) else [], []
    while waiting:
        each = waiting.pop(0)
        if isinstance(each, dict):
            flat.append(each)
            waiting += each["children"] if isinstance(each.get("children"), list) else []
    times = [each.get("createdAt") for each in flat]
    return sorted(flat, key=lambda each: each["createdAt"]) if all(isinstance(t, str) for t in times) else flat


def message(record: dict) -> Message:
    """One message; its parts where there is no text, as agents' answers have it."""
    content = record.get("text") or [_part(part) for part in record.get("content") or ()] or record.get("text")
    rating = at(record, "feedback.rating")
    found = {"role": "user" if record.get("isCreatedByUser") else "assistant", "content": content}
    found["model"] = None if record.get("isCreatedByUser") else record.get("model")
    return found | {"rating": THUMBS.get(rating, rating)} if isinstance(rating, str) else found


def _part(part: Any) -> Any:
    """`{"type": "text", "text": {"value": …}}` and `{"type": "think", "think": …}` as others have them."""
    if at(part, "type") == "text" and at(part, "text.value") is not None:
        return {"type": "text", "text": at(part, "text.value")}
    if at(part, "type") == "think":
        return {"type": "thinking", "thinking": at(part, "think")}
    return part


LIBRECHAT = Layout(
    name="librechat",
    required=("conversationId", "messages.isCreatedByUser|messagesTree.isCreatedByUser"),
    convert=partial(each, chats),
    more=("messages", "messagesTree", "user", "options"),
)
