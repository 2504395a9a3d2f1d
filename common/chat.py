"""The one reader of chats: messages as logs, APIs and trainers write them, put into the form that everything here takes.

What comes out is a list of `{"role", "content"}` with text under the roles `system`, `user`, `tool`, `assistant`. An answer is
one assistant message; what led to it (calls of tools, their results, what was said before them) is one `tool` message before
it. The rules stand in docs/chats.md as a table; reading what was read changes nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from wildreward.common.errors import described
from wildreward.common.parts import EMPTY, NOT_TEXT, REASONING_FIELDS, Piece, Unreadable, pieces_of, text_of
from wildreward.common.reasoning import may_hold_reasoning, split_reasoning, with_reasoning

Message = dict[str, Any]

_NAMES = {
    "user": "user human prompter end_user enduser",
    "assistant": "assistant ai gpt chatgpt bing bard claude gemini llm model bot chatbot agent",
    "system": "system developer",
    "tool": "tool function ipython observation function_response tool_response tool_result function_call_output",
}
ROLES = {name: role for role, names in _NAMES.items() for name in names.split()}
_ROLE_KEYS = ("role", "from", "type")
_CONTENT_KEYS = ("content", "value", "text")
_CALLS = ("function_call", "tool_call", "custom_tool_call")  # said by an assistant; in a field `from` or `type`

# What a chat may have beside or in place of role and content.
_MORE = frozenset([*REASONING_FIELDS, "tool_calls", "function_call", "refusal", "parts"])

STEPS_BUDGET = 4_000  # characters shown of what led to one answer
STEP_BUDGET = 1_500  # of each call, result or saying in it

# Why a message cannot be read.
NOT_A_MESSAGE = "not_a_record"
UNKNOWN_ROLE = "unknown_role"
INVALID_UNICODE = "invalid_unicode"
# What is done to messages that can, as counted.
REASONING = "reasoning_removed"
JOINED = "joined_{role}"
REPEATED = "repeated_{role}"
WITH_STEPS = "answers_with_tools"
STEPS_CUT = "tool_steps_cut"
NAMED = "parts_named"
SYSTEM_LATER = "system_in_the_middle"
NOTHING_SAID = "empty_answer"

GAP = "gap"
"""Role of what stands where a message could not be read; its content is empty."""


class Note(NamedTuple):
    """What became of a message: `place` in the chat, from 0, and a code."""

    place: int
    what: str


@dataclass
class Chat:
    """A chat that was read.

    Attributes:
        messages: see the module; with one of role `gap` where a message could not be read.
        places: of each message, where in the chat it (or its last part) was.
        lost: messages that could not be read, with the reason.
        notes: what was joined, taken out, cut, named.
        truncated: the rest was left out, for its size.
    """

    messages: list[Message] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    lost: list[Note] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    truncated: bool = False


def read_chat(
    messages: Sequence[Any],
    *,
    role_key: str = "role",
    content_key: str = "content",
    keep_reasoning: bool = False,
    max_characters: int | None = None,
    strict: bool = False,
) -> Chat:
    """Read a chat. A message that cannot be read leaves a gap, and the others are read all the same.

    Args:
        messages: of any source; what is not an object is one that cannot be read.
        role_key, content_key: keys of a message's role and content.
        keep_reasoning: leave reasoning in the answers; what came in a field beside them goes into `<think>` tags before.
        max_characters: longest chat; None: any.
        strict: keep texts that are empty or no valid Unicode: who scores an answer is told its score, not that it is odd.
    """
    room = max_characters or float("inf")
    if (plain := _plain_chat(messages, role_key, content_key, room)) is not None:
        return plain
    reader = _Reader(role_key, content_key, keep_reasoning, strict, room)
    for place, message in enumerate(messages):
        reader.take(place, message)
        if reader.chat.truncated:
            break
    reader.end()
    return reader.chat


def _plain_chat(messages: Sequence[Any], role_key: str, content_key: str, room: float) -> Chat | None:
    """A short cut for a chat as most are, with the same result: user and assistant in turn say something and nothing else."""
    chat, before = Chat(), ""
    for place, message in enumerate(messages):
        if type(message) is not dict or not _MORE.isdisjoint(message):
            return None
        name, text = message.get(role_key), message.get(content_key)
        if type(name) is not str or type(text) is not str or not text or text.isspace():
            return None
        role, room = ROLES.get(name, ""), room - len(text)
        more = room < 0 or not _is_unicode(text) or (role == "assistant" and may_hold_reasoning(text))
        if role not in ("user", "assistant") or role == before or more:
            return None
        chat.messages.append({"role": role, "content": text})
        chat.places.append(place)
        before = role
    return chat


def read_messages(value: Any, name: str, keep_reasoning: bool = False) -> list[Message]:
    """Messages of a chat that somebody asks about, all of which must be readable.

    Raises:
        ValueError: it is no list of such messages, naming `name`, position, keys and types, not what they say.
    """
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ValueError(f"{name} is {described(value)}; expected a list of messages")
    chat = read_chat(value, keep_reasoning=keep_reasoning, strict=True)
    if chat.lost:
        place, reason = chat.lost[0]
        which = f"{name}, message {place + 1}"
        if reason == UNKNOWN_ROLE and isinstance(_role_of(value[place], "role"), str):
            raise ValueError(f"{which} has an unknown role; expected user, assistant, system or tool")
        raise ValueError(
            f"{which} is {described(value[place])}; expected role and content, both text, or a list of parts with their text"
            + (" (it has no content)" if reason == EMPTY else "")
        )
    return chat.messages


def read_conversation(value: Any, name: str, keep_reasoning: bool = False) -> list[Message]:
    """`read_messages` that end with the assistant's answer, which is what is scored.

    Raises:
        ValueError: they do not, or see `read_messages`.
    """
    messages = read_messages(value, name, keep_reasoning)
    if not messages or messages[-1]["role"] != "assistant":
        raise ValueError(f"{name} does not end with the assistant's answer")
    return messages


def read_all(conversations: Sequence[Any], keep_reasoning: bool = False) -> list[list[Message]]:
    """`read_messages` of many chats, each called `conversation <n>`."""
    return [read_messages(chat, f"conversation {number}", keep_reasoning) for number, chat in enumerate(conversations)]


def shorten(text: str, characters: int) -> str:
    """A text whose middle is left out, with a note of how much, where it is longer than `characters`."""
    if len(text) <= characters:
        return text
    kept = characters - 50  # for the note
    head, tail = text[: kept * 2 // 3], text[len(text) - kept // 3 :]
    return f"{head} […{len(text) - len(head) - len(tail)} characters left out…] {tail}"


class _Reader:
    """Takes messages one by one; the answer to the last user message is open until the user speaks again."""

    def __init__(
        self, role_key: str, content_key: str, keep_reasoning: bool, strict: bool, max_characters: float
    ) -> None:
        self.role_key, self.content_key = role_key, content_key
        self.keep_reasoning, self.strict = keep_reasoning, strict
        self.chat, self.room = Chat(), max_characters
        self.steps: list[str] = []
        self.said: list[str] = []
        self.said_last: str | None = None  # among the steps
        self.said_at = 0
        self.asked: int | None = None  # index of the user message that is being answered
        self.heard = False  # something came after it, if only nothing
        self.later: list[tuple[int, str]] = []  # system messages after an answer

    def take(self, place: int, message: Any) -> None:
        """Read one message."""
        try:
            role, pieces = self._read(message)
        except (Unreadable, RecursionError) as error:
            self._lose(place, error.reason if isinstance(error, Unreadable) else NOT_TEXT)
            return
        self.room -= sum(
            min(len(text), STEPS_BUDGET) if kind in ("call", "result") else len(text) for kind, text in pieces
        )
        if self.room < 0:
            self.chat.truncated = True
            return
        if any(piece.kind == "named" for piece in pieces):
            self.chat.notes.append(Note(place, NAMED))
        if role == "system":
            self._system(place, text_of(pieces))
        elif role == "assistant":
            self._assistant(place, pieces)
        else:
            results = [piece.text for piece in pieces if piece.kind == "result"]
            said = text_of(pieces)
            for result in [*results, *([said] if role == "tool" else [])]:
                self._step(place, result)
            if role == "user" and (said or not results):
                self._user(place, said)

    def end(self) -> None:
        """Close what is open. A chat that ends with calls or results has no answer yet."""
        if not self.said and self.steps:
            self._put(self.said_at, "tool", self._shown())
            self.steps, self.said_last, self.heard = [], None, False
        self._close()

    def _known_role(self, message: Mapping[str, Any]) -> str:
        role = _role_of(message, self.role_key)
        name = role.strip().lower() if isinstance(role, str) else ""
        known = "assistant" if name in (*_CALLS, "reasoning") else ROLES.get(name)
        if known is None:
            raise Unreadable(UNKNOWN_ROLE)
        return known

    def _read(self, message: Any) -> tuple[str, list[Piece]]:
        if not isinstance(message, Mapping):
            raise Unreadable(NOT_A_MESSAGE)
        role = self._known_role(message)
        inner = message.get("data")
        if message.get(self.content_key) is None and isinstance(inner, dict):  # LangChain
            message = {**inner, **{key: value for key, value in message.items() if key != "data"}}
        key = self.content_key
        if key in _CONTENT_KEYS and message.get(key) is None:
            key = next((other for other in _CONTENT_KEYS if message.get(other) is not None), key)
        if message.get("type") in (*_CALLS, "reasoning", "function_call_output") and not message.get(key):
            pieces = pieces_of({key: [message]}, key)  # an item of OpenAI's Responses
        else:
            pieces = pieces_of(message, key)
        if message.get(self.role_key) in _CALLS:  # ShareGPT with tools
            pieces = [Piece("call", piece.text) for piece in pieces]
        if not pieces and (self.strict or role not in ("assistant", "tool")):
            raise Unreadable(EMPTY)
        return role, pieces

    def _system(self, place: int, text: str) -> None:
        if (not text.strip() and not self.strict) or not self._valid(place, text):
            return
        messages = self.chat.messages
        if all(message["role"] == "system" for message in messages) and not (self.said or self.steps):
            if messages:
                self._join(place, len(messages) - 1, text)
            else:
                self._put(place, "system", text)
            return
        self.chat.notes.append(Note(place, SYSTEM_LATER))
        if self.asked is not None and not self.said and not self.steps:
            self._insert(place, text)
        else:
            self.later.append((place, text))

    def _insert(self, place: int, text: str) -> None:
        """Put a system message before the user message that is being answered."""
        assert self.asked is not None
        if self.asked and self.chat.messages[self.asked - 1]["role"] == "system":
            self._join(place, self.asked - 1, text)
            return
        self.chat.messages.insert(self.asked, {"role": "system", "content": text})
        self.chat.places.insert(self.asked, place)
        self.asked += 1

    def _user(self, place: int, text: str) -> None:
        if not text.strip() and not self.strict:
            self._lose(place, EMPTY)
            return
        if not self._valid(place, text):
            return
        messages = self.chat.messages
        if self.asked is not None and not self.heard:
            if messages[self.asked]["content"] == text:
                self.chat.notes.append(Note(place, REPEATED.format(role="user")))
            else:
                self._join(place, self.asked, text)
            return
        self._close()
        self._put(place, "user", text)
        self.asked, self.heard = len(messages) - 1, False

    def _assistant(self, place: int, pieces: list[Piece]) -> None:
        """In the order of its pieces: what is said behind a call or a result may be the answer."""
        beside = next((piece.text for piece in pieces if piece.kind == "reasoning"), "")
        acts, spoken = False, []
        for piece in pieces:
            if piece.kind in ("text", "named"):
                spoken.append(piece)
            elif piece.kind != "reasoning":
                beside = self._say(place, text_of(spoken), beside) if spoken else beside
                self._step(place, piece.text)
                acts, spoken = True, []
        if spoken or beside or not acts:
            self._say(place, text_of(spoken), beside, empty=self.strict and not acts)
        self.said_at, self.heard = place, True

    def _say(self, place: int, text: str, beside: str, empty: bool = False) -> str:
        """Take what the assistant says, with the reasoning `beside` it, of which none is left; `empty`: though it is nothing."""
        if self.keep_reasoning:
            text = with_reasoning(text, beside)
        else:
            text, within = split_reasoning(text)
            if beside or within:
                self.chat.notes.append(Note(place, REASONING))
        if (text.strip() or empty) and self._valid(place, text):
            if self.said:
                repeated = self.said[-1] == text
                self.chat.notes.append(Note(place, (REPEATED if repeated else JOINED).format(role="assistant")))
                if repeated:
                    self.said.pop()
            self.said.append(text)
        return ""

    def _step(self, place: int, text: str) -> None:
        """A call or a result: what was said before it led to it, and is not the answer."""
        if not (text := text.encode(errors="replace").decode().strip()):
            return
        if self.said:
            self.said_last = self._answer()
            self.steps.append(self.said_last)
            self.said.clear()
        self.said_at, self.heard = place, True
        self.steps.append(text)

    def _close(self) -> None:
        """Write down the answer that was open; where nothing was said after the last step, it is what was said last."""
        if not self.said and self.said_last is not None:
            self.steps.remove(self.said_last)
            self.said.append(self.said_last)
        if self.asked is not None and self.heard and not (self.said or self.steps):
            self.chat.notes.append(Note(self.said_at, NOTHING_SAID))
        if self.steps:
            self.chat.notes.append(Note(self.said_at, WITH_STEPS))
            self._put(self.said_at, "tool", self._shown())
        if (answer := self._answer()) or (self.said and self.strict):
            self._put(self.said_at, "assistant", answer)
        for place, text in self.later:
            self._put(place, "system", text)
        self.said, self.steps, self.said_last, self.later, self.asked = [], [], None, [], None

    def _answer(self) -> str:
        """What was said, as one text; together, messages may hold reasoning that neither has."""
        text = _together(self.said)
        return text if self.keep_reasoning or len(self.said) < 2 else split_reasoning(text).answer

    def _shown(self) -> str:
        """The steps within their budget."""
        whole = _together(map(str.strip, self.steps), "\n")
        if len(whole) <= STEPS_BUDGET:
            return whole
        self.chat.notes.append(Note(self.said_at, STEPS_CUT))
        return shorten(_together((shorten(step.strip(), STEP_BUDGET) for step in self.steps), "\n"), STEPS_BUDGET)

    def _lose(self, place: int, reason: str) -> None:
        self._close()
        self.chat.lost.append(Note(place, reason))
        self._put(place, GAP, "")

    def _valid(self, place: int, text: str) -> bool:
        """Whether a text can be written; it leaves a gap where not."""
        if self.strict or _is_unicode(text):
            return True
        self._lose(place, INVALID_UNICODE)
        return False

    def _put(self, place: int, role: str, text: str) -> None:
        self.chat.messages.append({"role": role, "content": text})
        self.chat.places.append(place)

    def _join(self, place: int, index: int, text: str) -> None:
        message = self.chat.messages[index]
        self.chat.notes.append(Note(place, JOINED.format(role=message["role"])))
        message["content"] = _together([message["content"], text])


def _together(texts: Iterable[str], between: str = "\n\n") -> str:
    return between.join(filter(None, texts))


def _is_unicode(text: str) -> bool:
    """Whether a text can be written: it has no lone surrogates."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def _role_of(message: Any, role_key: str) -> Any:
    """A message's role: under its key; where that is a usual one, also under the other, or as its type (LangChain)."""
    if not isinstance(message, Mapping):
        return None
    keys = (role_key, *_ROLE_KEYS) if role_key in _ROLE_KEYS else (role_key,)
    return next((message[key] for key in keys if message.get(key) is not None), None)
