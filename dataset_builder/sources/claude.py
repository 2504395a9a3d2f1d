"""The data export of Claude: `conversations.json`.

{"uuid": …, "account": {"uuid": …}, "chat_messages": [{"uuid": …, "sender": "human", "text": …, "content": [parts],
    "attachments": [{"file_name": …}], "parent_message_uuid": …}]}
"""

from collections.abc import Iterator
from functools import partial

from wildreward.dataset_builder.sources.layouts import Layout, at, each
from wildreward.dataset_builder.sources.tree import Message, Node, conversations

_NO_PARTS = ("token_budget", "flag")


def chats(record: dict) -> Iterator[dict]:
    """The path that the user kept, and what was generated again. Older exports have no tree, but a list."""
    found = record.get("chat_messages")
    nodes: list[Node] = []
    for number, message in enumerate(found if isinstance(found, list) else ()):
        if isinstance(message, dict):
            parent = message.get("parent_message_uuid") or (nodes[-1].id if nodes else None)
            nodes.append(Node(message.get("uuid") or number, parent, [_message(message)]))
    for row in conversations(nodes, record.get("uuid"), record.get("current_leaf_message_uuid")):
        yield {**row, "user": at(record, "account.uuid"), "model": record.get("model")}


def _message(message: dict) -> Message:
    """`text` has all parts run together, also what is no answer; it counts where there are no parts."""
    parts, files = message.get("content"), []
    for key in ("attachments", "files"):
        if isinstance(message.get(key), list):
            files += [{"type": "file"} for _ in message[key]]
    if not isinstance(parts, list) or not parts:
        content = message.get("text")
        parts = [{"type": "text", "text": content}] if files else content
    else:
        parts = [part for part in parts if not (isinstance(part, dict) and part.get("type") in _NO_PARTS)]
        if len(parts) == 1 and not files and at(parts[0], "type") == "text":
            parts = at(parts[0], "text")
    return {"role": message.get("sender"), "content": files + parts if files else parts}


CLAUDE = Layout(
    name="claude",
    required=("chat_messages",),
    convert=partial(each, chats),
    more=("uuid", "account", "current_leaf_message_uuid"),
    beside=("users.json", "projects.json", "projects/*", "memories.json", "manifest.json"),
)
