"""Chats that branch, where an answer was generated again or a question edited: what the user kept, and what he did not.

question ─┬─ answer 1                      left for another: a conversation of its own, rated "regenerated"
          └─ answer 2 ── question ── …     where the user is now: the conversation
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

Message = dict[str, Any]
REGENERATED = "regenerated"


@dataclass
class Node:
    """One place of the tree.

    Attributes:
        id: its name.
        parent: the name of the one before it.
        messages: what was said there; nothing at a root, or where it was hidden from the user.
        variant: answers to one question that were shown side by side have different ones.
    """

    id: Any
    parent: Any
    messages: list[Message]
    variant: Any = None
    children: list["Node"] = field(default_factory=list)

    @property
    def asks(self) -> bool:
        return any(message.get("role") in ("user", "human") for message in self.messages)


def conversations(nodes: Iterable[Node], name: Any, leaf: Any = None) -> Iterator[dict[str, Any]]:
    """Rows with the messages from the root to the leaf; then with those up to each answer that was generated again and left so,
    the answer with a `rating`. All are branches of one chat.

    Args:
        nodes: in the order of their making.
        name: of the chat, which its branches' ids begin with.
        leaf: where the user is now; if there is none with this name, the node that was made last.
    """
    known = {}
    for node in nodes:
        if isinstance(node.id, str | int) and (node.parent is None or isinstance(node.parent, str | int)):
            known[node.id] = node
    for node in known.values():
        if node.parent in known:
            known[node.parent].children.append(node)
    last = known.get(leaf) if isinstance(leaf, str | int) else None
    path = _up(known, last or next(reversed(known.values()), None))
    yield {"id": name, "branch_of": name, "messages": [message for node in path for message in node.messages]}
    before: list[Message] = []
    for node, kept in zip(path, [*path[1:], None], strict=False):
        before = before + [{**message, "rating": None} for message in node.messages]
        for number, child in enumerate(node.children):
            again = any(later.variant == child.variant and not later.asks for later in node.children[number + 1 :])
            if child is not kept and again and (answer := _answer(child)):
                id_ = f"{name}_{str(child.id)[:8]}" if name else name
                yield {"id": id_, "branch_of": name, "messages": before + answer}


def _up(known: dict[Any, Node], node: Node | None) -> list[Node]:
    path: dict[int, Node] = {}
    while node and id(node) not in path:
        path[id(node)] = node
        node = known.get(node.parent)
    return [*path.values()][::-1]


def _answer(node: Node) -> list[Message]:
    """What was said from a node to the end of its branch, with a rating; nothing where the user went on talking there."""
    said: list[Message] = []
    seen: set[int] = set()
    while id(node) not in seen:
        seen.add(id(node))
        if node.asks:
            return []
        said += node.messages
        if not node.children:
            break
        node = node.children[-1]
    if not said or said[-1].get("role") == "tool":
        return []
    return [*said[:-1], {**said[-1], "rating": said[-1].get("rating") or REGENERATED}]
