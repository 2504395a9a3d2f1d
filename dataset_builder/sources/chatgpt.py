"""The data export of ChatGPT: `conversations.json`, or `conversations-000.json` and so on, with `message_feedback.json`.

{"conversation_id": …, "current_node": "c", "mapping": {"c": {"parent": "b", "children": [],
    "message": {"author": {"role": "assistant"}, "recipient": "all", "content": {"content_type": "text", "parts": […]}}}}}
{"id": "c", "conversation_id": …, "rating": "thumbs_up", "content": "{…}"}
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from wildreward.dataset_builder.sources.layouts import Columns, Layout, at, each
from wildreward.dataset_builder.sources.tree import Message, Node, conversations

_THOUGHTS = ("thoughts", "reasoning_recap")
_CONTEXT = ("user_editable_context", "model_editable_context")  # settings of the user's, not said in the chat


def rows(records: Iterable[Any], columns: Columns) -> Iterator[Any]:
    """The conversations, in which the ratings of the records before them stand."""
    rated: dict[str, Any] = {}
    for record in records:
        if isinstance(record, dict) and "rating" in record and "mapping" not in record:
            rated[str(record.get("message_id") or record.get("id"))] = record["rating"]
        else:
            yield from each(partial(chats, rated=rated), [record], columns)


def chats(record: dict, rated: Mapping[str, Any]) -> Iterator[dict]:
    """The path that the user kept, and what was generated again.

    Args:
        record: one conversation.
        rated: message → its rating.
    """
    mapping = record.get("mapping")
    found = mapping.values() if isinstance(mapping, dict) else ()
    nodes = [_node(node, place, rated) for place, node in enumerate(found) if isinstance(node, dict)]
    name = record.get("conversation_id") or record.get("id")
    for row in conversations(_in_order(nodes), name, record.get("current_node")):
        models = [message["model"] for message in row["messages"] if message.get("model")]
        model = models[-1] if models else record.get("default_model_slug")
        yield {**row, "model": model, "messages": _joined(row["messages"])}


def _in_order(nodes: list[tuple[float, Node]]) -> list[Node]:
    return [node for _, node in sorted(nodes, key=lambda pair: pair[0])]


def _node(node: dict, place: int, rated: Mapping[str, Any]) -> tuple[float, Node]:
    """With its time; the root and others without one come in their place before all."""
    message = node.get("message")
    time = at(message, "create_time")
    rating = rated.get(str(at(message, "id")))
    said = [{**found, "rating": rating} for found in _messages(message)] if rating else _messages(message)
    shown_together = at(message, "metadata.paragen_variants_info")
    variant = node.get("id") if shown_together else None
    return (
        time if isinstance(time, int | float) and time == time else place - 1e9,
        Node(node.get("id"), node.get("parent"), said, variant),
    )


def _messages(message: Any) -> list[Message]:
    role, kind = at(message, "author.role"), at(message, "content.content_type")
    if not isinstance(message, dict) or not role or kind in _CONTEXT:
        return []
    if at(message, "metadata.is_visually_hidden_from_conversation"):
        return []
    text = _content(message.get("content"), kind)
    if kind in _THOUGHTS:
        return [{"role": "assistant", "reasoning_content": text}]
    if not text and role != "user":
        return []
    common = {"role": role, "model": at(message, "metadata.model_slug")}
    recipient = message.get("recipient")
    if role == "assistant" and recipient not in (None, "all"):
        call = {"type": "function", "function": {"name": recipient, "arguments": text}}
        return [{**common, "content": None, "tool_calls": [call]}]
    if role == "tool":
        common["name"] = at(message, "author.name")
    return [{**common, "content": text}]


def _content(content: Any, kind: Any) -> Any:
    """Text; or parts, where not all is text."""
    if not isinstance(content, dict):
        return content
    if kind == "thoughts" and isinstance(content.get("thoughts"), list):
        return "\n".join(str(at(thought, "content") or "") for thought in content["thoughts"])
    parts = content.get("parts")
    if not isinstance(parts, list):
        plain = next((content[key] for key in ("text", "result", "content") if content.get(key)), None)
        return plain if plain or kind in ("text", "code", "execution_output", None) else [{"type": kind}]
    if all(isinstance(part, str) for part in parts):
        return "\n".join(parts)
    return [{"type": "text", "text": part} if isinstance(part, str) else _part(part) for part in parts]


def _part(part: Any) -> dict:
    kind = str(at(part, "content_type") or "part").removesuffix("_asset_pointer")
    return {"type": kind, "text": at(part, "text")} if at(part, "text") else {"type": kind}


def _joined(messages: list[Message]) -> list[Message]:
    """Thoughts beside the answer that they led to."""
    joined: list[Message] = []
    thoughts = ""
    for message in messages:
        if "content" not in message:
            thoughts = "\n".join(filter(None, [thoughts, message.get("reasoning_content")]))
            continue
        joined.append(message | {"reasoning_content": thoughts} if thoughts else message)
        thoughts = ""
    return joined


CHATGPT = Layout(
    name="chatgpt",
    required=("mapping", "current_node"),
    convert=rows,
    more=("conversation_id", "default_model_slug"),
    ratings_file="message_feedback.json",
    beside=(
        "textdocs/*",
        "user.json",
        "user_settings.json",
        "model_comparisons.json",
        "shared_conversations.json",
        "group_chats.json",
        "shopping.json",
        "tool_messages.json",
        "library_files.json",
        "export_manifest.json",
        "conversation_asset_file_names.json",
    ),
)
