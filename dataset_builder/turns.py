"""From conversations to turns worth labelling, and from turns to requests."""

import hashlib
from collections.abc import Iterable, Iterator

from wildreward.dataset_builder.labelers.base import Request, Task
from wildreward.dataset_builder.languages import language_name
from wildreward.dataset_builder.records import Conversation, Turn
from wildreward.dataset_builder.words import WordBudget, guess_language

LANGUAGE = "language"
TOO_LONG = "too_long"
# Labelers see no more history than this; their prompts cut it further.
REQUEST_HISTORY = 20


def examine(conversation: Conversation, max_words: int) -> None:
    """Find out once what needs the whole text: the language where the source tells none, and how many turns fit.

    Args:
        conversation: `language` and `short_turns` are set.
        max_words: longest history, query and response together.
    """
    if conversation.language is None and conversation.message_languages is None:
        conversation.language = guess_language(conversation.messages[conversation.first].content)
    budget = WordBudget(max_words)
    for message in conversation.messages[: conversation.first]:
        budget.add(message.content)
    for turn in conversation.turns():
        budget.add(turn.query)
        budget.add(turn.response)
        if budget.exceeded():
            return
        conversation.short_turns += 1


def extract(conversations: Iterable[Conversation], languages: list[str]) -> Iterator[Turn]:
    """Every turn with a follow-up, in order. Those in other languages or too long are marked as dropped at once.

    Args:
        conversations: examined, with unique ids.
        languages: names or codes to keep; an unknown language is kept; empty: keep all.
    """
    kept = {(language_name(language) or language).lower() for language in languages}
    for conversation in conversations:
        for turn in conversation.turns():
            language = turn.language
            if kept and language and language.lower() not in kept:
                turn.dropped = LANGUAGE
            elif turn.number >= conversation.short_turns:
                turn.dropped = TOO_LONG
            yield turn


def request_for(turn: Turn, task: Task, with_key: bool = True) -> Request:
    """What a labeler is asked about a turn. The key covers the task and everything the labeler sees."""
    history = tuple(turn.history[-REQUEST_HISTORY:])
    key = ""
    if with_key:
        digest = hashlib.blake2b(task.encode(), digest_size=16)
        texts = [text for message in history for text in message]
        for text in (*texts, turn.query, turn.response, turn.feedback, turn.language or ""):
            data = text.encode()
            digest.update(len(data).to_bytes(8, "little"))
            digest.update(data)
        key = digest.hexdigest()
    return Request(key, turn.id, task, history, turn.query, turn.response, turn.feedback, turn.language)
