"""Tables with a message, or a question and its answer, in a line.

    {"conversation_id": …, "role": "user", "content": …, "created_at": …, "user_id": …}
    {"conversation_id": …, "prompt": …, "response": …}

Other columns, such as a rating, stay with the message (of a question and its answer: with the answer).
"""

from collections.abc import Iterable, Iterator
from typing import Any

from wildreward.dataset_builder.sources.grouping import grouped, messages_in
from wildreward.dataset_builder.sources.layouts import Columns, Layout, at, parsed
from wildreward.dataset_builder.sources.librechat import message as librechat_message
from wildreward.dataset_builder.sources.tree import Message, Node, conversations

IDS = (
    "conversation_id",
    "conversationId",
    "chat_id",
    "chatId",
    "thread_id",
    "threadId",
    "session_id",
    "sessionId",
    "dialog_id",
    "dialogue_id",
    "message_tree_id",
    "conversation_hash",
)
USERS = ("user_id", "userId", "user", "uid", "username", "hashed_ip")
ROLES = ("role", "sender", "author", "speaker", "from", "message.role", "isCreatedByUser", "is_user")
CONTENTS = ("content", "text", "message.content", "message", "body", "value", "utterance")
PLACES = (
    "turn",
    "turn_id",
    "turn_index",
    "message_index",
    "index",
    "position",
    "order",
    "seq",
    "sequence",
    "step",
    "created_at",
    "createdAt",
    "created_date",
    "create_time",
    "timestamp",
    "datetime",
    "time",
    "date",
    "ts",
)
PARENTS = ("parent_id", "parentId", "parentMessageId", "parent_message_id", "parentUuid")
NAMES = ("message_id", "messageId", "id", "uuid")
QUESTIONS = ("prompt", "question", "query", "user_message", "user_input", "instruction", "input")
ANSWERS = ("response", "answer", "completion", "assistant_message", "bot_response", "reply", "output")


def from_messages(records: Iterable[Any], columns: Columns) -> Iterator[Any]:
    """Rows of the conversations whose messages the records are, in the order of the first column of `PLACES` that they have."""

    def keyed(strange: list[Any]) -> Iterator[tuple[Any, Any, dict]]:
        for record in records:
            key = at(record, columns.id) if isinstance(record, dict) else None
            if key is None:
                strange.append(None)
            else:
                yield key, _first(record, PLACES), record

    strange: list[Any] = []
    for key, group in grouped(keyed(strange)):
        yield _row(key, group, columns, _path([(record, _message(record, columns)) for record in group]))
    yield from strange


def from_exchanges(records: Iterable[Any], columns: Columns) -> Iterator[Any]:
    """Rows of the conversations whose questions and answers the records are; of one each, where there is no id."""

    def keyed() -> Iterator[tuple[Any, Any, dict]]:
        for number, record in enumerate(records):
            if isinstance(record, dict):
                key = at(record, columns.id)
                yield ["no id", number] if key is None else key, _first(record, PLACES), record

    for key, group in grouped(keyed()):
        key = key if at(group[0], columns.id) is not None else group[0].get("id")
        exchanges = [_exchange(record) for record in group]
        if all(len(messages) == 2 for messages in exchanges):
            yield _row(key, group, columns, [message for messages in exchanges for message in messages])
        else:
            yield from (_row(key, [record], columns, said) for record, said in zip(group, exchanges, strict=True))


def _exchange(record: dict) -> list[Message]:
    """The question, which may bring what was said before, and the answer with the record's other columns."""
    question, answer = parsed(_first(record, QUESTIONS)), parsed(_first(record, ANSWERS))
    asked = messages_in(question, "user") or [{"role": "user", "content": question}]
    answered = messages_in(answer, "assistant") or [{"role": "assistant", "content": answer}]
    return [*asked, *answered[:-1], {**record, **answered[-1]}]


def _first(record: dict, names: Iterable[str]) -> Any:
    return next((record[name] for name in names if record.get(name) is not None), None)


def _row(key: Any, group: list[dict], columns: Columns, messages: list[Message]) -> dict:
    asked = [record for record in group if at(record, columns.role) in ("user", "human", True)] or group
    found = {name: at(asked[0], getattr(columns, name)) for name in ("user", "language")}
    models = [model for record in group if (model := at(record, columns.model)) and isinstance(model, str)]
    return {"id": key, **found, "model": models[-1] if models else None, "messages": messages}


def _message(record: dict, columns: Columns) -> Message:
    if "isCreatedByUser" in record:
        return librechat_message(record)
    role = at(record, columns.role)
    if isinstance(role, bool):
        role = "user" if role else "assistant"
    return {**record, "role": role, "content": at(record, columns.content)}


def _path(found: list[tuple[dict, Message]]) -> list[Message]:
    """All messages; where some of them answer the same one, those up to the last."""
    parents = [_first(record, PARENTS) for record, _ in found]
    nodes = [Node(_first(r, NAMES), parent, [m]) for (r, m), parent in zip(found, parents, strict=True)]
    branches = len(set(map(str, parents))) < len(parents) and any(parent is not None for parent in parents)
    if not branches or any(node.id is None for node in nodes):
        return [message for _, message in found]
    return next(conversations(nodes, None))["messages"]


LINES = Layout(
    name="lines",
    required=("|".join(IDS), "|".join(ROLES), "|".join(CONTENTS)),
    columns=Columns(None, IDS[0], USERS[0], "language", "model", ROLES[0], CONTENTS[0]),
    other_names={"id": IDS[1:], "user": USERS[1:], "role": ROLES[1:], "content": CONTENTS[1:]},
    convert=from_messages,
    together=True,
)
EXCHANGES = Layout(
    name="exchanges",
    required=("|".join(QUESTIONS), "|".join(ANSWERS)),
    columns=Columns(None, IDS[0], USERS[0], "language", "model", None, None),
    other_names={"id": IDS[1:], "user": USERS[1:]},
    convert=from_exchanges,
    together=True,
)
