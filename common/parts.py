"""What one message holds, in pieces: text, reasoning, calls of tools and their results, in the forms that APIs write.

- `"Paris"`, `[{"type": "output_text", "text": "Paris"}]`: text, as is every part with `text`, whatever its type
- `[{"type": "thinking", "thinking": "…"}]`: reasoning
- `[{"type": "tool_use", "name": "find", "input": {"q": 1}}]`: call, `find({"q": 1})`
- `[{"type": "tool_result", "content": "…"}]`: result
- `[{"type": "image_url", "image_url": {"url": "…"}}]`: named, `[image]`
- `[{"type": "chart", "points": [1, 2]}]`: named, `[chart {"points": [1, 2]}]`
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

Kind = Literal["text", "named", "reasoning", "call", "result"]

NOT_TEXT = "non_string_content"
EMPTY = "empty_content"

REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking", "reasoning_details", "thinking_blocks", "thoughts")
_REASONING_TYPES = frozenset(
    ["thinking", "redacted_thinking", "reasoning", "summary_text", "reasoning_text", "thought"]
)
_CALL_TYPES = frozenset(
    ["tool_use", "tool_call", "tool-call", "function_call", "custom_tool_call", "server_tool_use", "mcp_tool_use"]
)
_RESULT_ENDINGS = ("tool_result", "tool-result", "call_output", "function_response", "tool_call_response")
_MEDIA = {
    "image": ("image", "image_url", "input_image", "image_file", "image_asset_pointer", "output_image"),
    "audio": ("audio", "audio_url", "input_audio", "output_audio"),
    "video": ("video", "video_url", "input_video"),
    "file": ("file", "input_file", "file_url", "document", "container_upload"),
}
_MEDIA_NAMES = {kind: name for name, kinds in _MEDIA.items() for kind in kinds}
_SILENT_TYPES = frozenset(["step-start", "step_start"])  # say where, not what
_TEXT_KEYS = ("text", "refusal", "transcript")
_LONGEST_VALUE = 2_000  # characters of a text inside a part of unknown type; longer ones are told by their hash


class Unreadable(Exception):
    """A message whose content cannot be read; `reason` is its code."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Piece(NamedTuple):
    """A piece of a message."""

    kind: Kind
    text: str


def pieces_of(message: Mapping[str, Any], content_key: str) -> list[Piece]:
    """All pieces of a message, in order: reasoning beside the content, the content, calls beside it.

    Raises:
        Unreadable: the content is neither text nor parts, or a part is none.
    """
    content = message.get(content_key)
    if content is None or content == "":
        content = _with_types(message.get("parts")) or content  # Gemini and the AI SDK
    pieces = [Piece("reasoning", text) for field in REASONING_FIELDS if (text := _plain(message.get(field)))]
    pieces = pieces[:1]  # the same under two names
    pieces += content_pieces(content)
    if not any(piece.text for piece in pieces if piece.kind == "text") and isinstance(message.get("refusal"), str):
        pieces.append(Piece("text", message["refusal"]))
    calls = message.get("tool_calls") or ([message["function_call"]] if message.get("function_call") else [])
    pieces += [_call(call) for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    return pieces


def content_pieces(content: Any) -> list[Piece]:
    """The pieces of a content: a text, null, a part, or a list of parts.

    Raises:
        Unreadable: see `pieces_of`.
    """
    if content is None:
        return []
    if isinstance(content, str):
        return [Piece("text", content)]
    if isinstance(content, dict):
        content = (
            _with_types(content["parts"]) if isinstance(content.get("parts"), list) else [content]
        )  # ChatGPT's export
    if not isinstance(content, list):
        raise Unreadable(NOT_TEXT)
    return [piece for part in content for piece in _pieces_of_part(part)]


def text_of(pieces: list[Piece]) -> str:
    """What is said: pieces of text as one, what is named on lines of its own."""
    said, last = "", ""
    for kind, text in pieces:
        if kind in ("text", "named") and text:
            apart = said and (kind == "named" or last == "named") and not said.endswith("\n")
            said, last = f"{said}\n{text}" if apart else said + text, kind
    return said


def result_text(value: Any) -> str:
    """A tool's result as text: a text or parts as such, anything else as JSON."""
    if value is None or isinstance(value, str):
        return value or ""
    try:
        if isinstance(value, list):
            return text_of([Piece("text", p.text) if p.kind == "result" else p for p in content_pieces(value)])
    except Unreadable:
        pass
    return _json(value)


def _with_types(parts: Any) -> Any:
    """`parts`, in which texts may stand as such, as a content has them."""
    return (
        [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]
        if isinstance(parts, list)
        else parts
    )


def _pieces_of_part(part: Any) -> Iterator[Piece]:
    if not isinstance(part, dict):
        raise Unreadable(NOT_TEXT)
    kind = part.get("type") if isinstance(part.get("type"), str) else _kind_by_keys(part)
    if kind in _REASONING_TYPES or part.get("thought") is True:
        yield Piece("reasoning", _plain(part))
    elif kind in _CALL_TYPES:
        yield _call(part.get("functionCall") or part.get("function_call") or part)
    elif kind.endswith(_RESULT_ENDINGS):
        yield Piece("result", _result_of(part))
    elif kind.startswith("tool-") or kind == "dynamic-tool":
        yield from _invocation(part, kind)
    elif (text := _text_in(part)) is not None:
        yield Piece("text", text)
    elif kind in ("", "text", "input_text", "output_text"):
        raise Unreadable(NOT_TEXT)
    elif kind not in _SILENT_TYPES:
        yield Piece("named", _named(part, kind))


def _text_in(part: dict[str, Any]) -> str | None:
    texts = (part.get(key) for key in _TEXT_KEYS)
    plain = (text.get("value") if isinstance(text, dict) else text for text in texts)  # OpenAI's Assistants wrap it
    return next((text for text in plain if isinstance(text, str)), None)


def _kind_by_keys(part: dict[str, Any]) -> str:
    """The type of a part that does not say it (Gemini)."""
    for key, kind in (
        ("functionCall", "function_call"),
        ("function_call", "function_call"),
        ("functionResponse", "function_response"),
        ("function_response", "function_response"),
        ("inlineData", "file"),
        ("inline_data", "file"),
        ("fileData", "file"),
        ("file_data", "file"),
    ):
        if key in part:
            return kind
    return ""


def _named(part: dict[str, Any], kind: str) -> str:
    """`[image]` for media; for a type that is not known, what it holds, too: two parts are one only if they are equal."""
    if kind in _MEDIA_NAMES:
        return f"[{_MEDIA_NAMES[kind]}]"
    rest = {key: value for key, value in part.items() if key != "type"}
    return f"[{kind} {_json(_shortened(rest), sort_keys=True)}]" if rest else f"[{kind}]"


def _shortened(value: Any) -> Any:
    if isinstance(value, str) and len(value) > _LONGEST_VALUE:
        digest = hashlib.blake2b(value.encode(errors="replace"), digest_size=6).hexdigest()
        return f"{value[:100]}…{len(value)} characters, {digest}"
    if isinstance(value, dict):
        return {key: _shortened(inner) for key, inner in value.items()}
    return [_shortened(inner) for inner in value] if isinstance(value, list) else value


def _call(call: dict[str, Any]) -> Piece:
    """`name(arguments)`, arguments as they were written or as JSON."""
    inner = next((call[key] for key in ("function", "toolInvocation") if isinstance(call.get(key), dict)), call)
    name = inner.get("name") or inner.get("toolName") or inner.get("tool_name") or "tool"
    keys = ("arguments", "input", "args", "parameters")
    arguments = next((inner[key] for key in keys if inner.get(key) is not None), "")
    return Piece("call", f"{name}({arguments if isinstance(arguments, str) else _json(arguments)})")


def _invocation(part: dict[str, Any], kind: str) -> Iterator[Piece]:
    """A call and its result in one part (AI SDK)."""
    inner = part.get("toolInvocation")
    inner = inner if isinstance(inner, dict) else {"name": kind.removeprefix("tool-"), **part}
    yield _call(inner)
    result = next((inner[key] for key in ("output", "result", "errorText") if inner.get(key) is not None), None)
    if result is not None:
        yield Piece("result", result_text(result))


def _result_of(part: dict[str, Any]) -> str:
    inner = part.get("functionResponse") or part.get("function_response")
    inner = inner if isinstance(inner, dict) else part
    keys = ("content", "output", "result", "response", "text")
    return result_text(next((inner[key] for key in keys if inner.get(key) is not None), ""))


def _plain(value: Any) -> str:
    """The text of a reasoning field: a text, or parts or objects that hold one under some name."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(filter(None, map(_plain, value)))
    if isinstance(value, dict):
        keys = ("thinking", "text", "reasoning", "summary", "content", "reasoningText")
        return next((text for key in keys if (text := _plain(value.get(key)))), "")
    return ""


def _json(value: Any, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str, **options)
