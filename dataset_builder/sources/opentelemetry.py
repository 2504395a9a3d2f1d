"""Traces of chat calls by OpenTelemetry's conventions for generative AI, as OTLP JSON or one span a record.

    {"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": …, "startTimeUnixNano": …, "attributes": [
        {"key": "gen_ai.input.messages", "value": {"stringValue": "[{\\"role\\": …, \\"parts\\": […]}]"}}], "events": […]}]}]}]}

What was said stands in attributes (`gen_ai.input.messages` and `gen_ai.output.messages`; `gen_ai.prompt.0.content`;
`llm.input_messages.0.message.content`) or in the span's events, of the same or of older names.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from wildreward.dataset_builder.sources.grouping import chats_of_calls, messages_in
from wildreward.dataset_builder.sources.layouts import Columns, Layout, at, parsed
from wildreward.dataset_builder.sources.tree import Message

_KEYS = ("gen_ai.conversation.id", "session.id", "langfuse.session.id", "traceloop.association.properties.session_id")
_USERS = ("enduser.id", "user.id", "langfuse.user.id")
_MODELS = ("gen_ai.response.model", "gen_ai.request.model", "llm.model_name")
_INDEXED = re.compile(r"(gen_ai\.prompt|gen_ai\.completion|llm\.input_messages|llm\.output_messages)\.(\d+)\.(.+)")
_OUTPUT = ("gen_ai.completion", "llm.output_messages")
_EVENT = re.compile(r"gen_ai\.(system|user|assistant|tool)\.message")


def convert(records: Iterable[Any], columns: Columns) -> Iterator[Any]:
    """One row for each conversation, as its spans name it, or for each trace."""
    yield from chats_of_calls(call for record in records for span in _spans(record) if (call := _call(span)))


def _spans(record: Any) -> Iterator[dict]:
    resources = at(record, "resourceSpans")
    if resources is None:
        yield from [record] if isinstance(record, dict) else []
        return
    for resource in _list(resources):
        for scope in _list(at(resource, "scopeSpans") or at(resource, "instrumentationLibrarySpans")):
            yield from (span for span in _list(at(scope, "spans")) if isinstance(span, dict))


def _list(value: Any) -> list:
    return value if isinstance(value, list) else []


def _call(span: dict) -> tuple[Any, Any, dict] | None:
    attributes = _attributes(span.get("attributes") or span.get("SpanAttributes"))
    asked, answered = _said(attributes)
    for event in _list(parsed(span.get("events"))):
        if isinstance(event, dict):
            more = _said_in_event(event)
            asked, answered = asked or [], answered or []
            asked, answered = asked + more[0], answered + more[1]
    if not asked or not answered:
        return None
    trace = next(
        (found for name in ("traceId", "trace_id", "context.trace_id", "TraceId") if (found := at(span, name))), None
    )
    times = ("startTimeUnixNano", "start_time", "startTime", "Timestamp")
    return (
        _first(attributes, _KEYS) or trace,
        next((span[name] for name in times if span.get(name) is not None), None),
        {
            "input": asked,
            "output": answered[:1] if all(m["role"] == "assistant" for m in answered) else answered,
            "user": _first(attributes, _USERS),
            "model": _first(attributes, _MODELS),
            "name": span.get("name"),
        },
    )


def _first(attributes: dict, names: Iterable[str]) -> Any:
    return next((attributes[name] for name in names if attributes.get(name)), None)


def _attributes(found: Any) -> dict[str, Any]:
    """OTLP's list of keys and typed values, or an object, as an object."""
    found = parsed(found)
    if isinstance(found, dict):
        return found
    pairs = [(at(item, "key"), at(item, "value")) for item in _list(found)]
    return {key: _value(value) for key, value in pairs if isinstance(key, str)}


def _value(value: Any) -> Any:
    if not isinstance(value, dict) or len(value) != 1:
        return value
    ((kind, inner),) = value.items()
    if kind == "arrayValue":
        return [_value(item) for item in _list(at(inner, "values"))]
    if kind == "kvlistValue":
        return _attributes(at(inner, "values"))
    return inner if kind.endswith("Value") else value


def _said(attributes: dict[str, Any]) -> tuple[list[Message], list[Message]]:
    """What attributes tell: input, and output."""
    system = _parts("system", parsed(attributes.get("gen_ai.system_instructions")))
    asked = [m for item in _list(parsed(attributes.get("gen_ai.input.messages"))) for m in _message(item)]
    answered = [m for item in _list(parsed(attributes.get("gen_ai.output.messages"))) for m in _message(item)]
    indexed: dict[tuple[str, int], dict] = {}
    for key, value in attributes.items():
        if match := _INDEXED.fullmatch(key):
            indexed.setdefault((match[1], int(match[2])), {})[match[3].removeprefix("message.")] = value
    for (prefix, _), fields in sorted(indexed.items()):
        role = fields.get("role") or ("assistant" if prefix in _OUTPUT else "user")
        (answered if prefix in _OUTPUT else asked).append({"role": role, "content": fields.get("content")})
    for name, side, role in (("gen_ai.prompt", asked, "user"), ("gen_ai.completion", answered, "assistant")):
        side += messages_in(parsed(attributes.get(name)), role)
    return (system if asked and system[0]["content"] else []) + asked, answered


def _said_in_event(event: dict) -> tuple[list[Message], list[Message]]:
    attributes = _attributes(event.get("attributes"))
    name = str(event.get("name") or attributes.get("event.name"))
    body = parsed(attributes.get("gen_ai.event.content") or event.get("body"))
    fields = attributes | (body if isinstance(body, dict) else {})
    if match := _EVENT.fullmatch(name):
        return [{"role": fields.get("role") or match[1], "content": parsed(fields.get("content"))}], []
    if name == "gen_ai.choice":
        return [], messages_in(parsed(fields.get("message") or fields.get("content")), "assistant")
    return _said(attributes)


def _message(item: Any) -> list[Message]:
    """A message with parts; what tools gave back is a message for each."""
    if not isinstance(item, dict):
        return []
    parts = item.get("parts")
    return _parts(str(item.get("role")), parts) if isinstance(parts, list) else [item]


def _parts(role: str, parts: Any) -> list[Message]:
    texts, calls, results, thoughts = [], [], [], []
    for part in _list(parts):
        kind = at(part, "type")
        if kind == "text":
            texts.append({"type": "text", "text": at(part, "content")})
        elif kind == "tool_call":
            function = {"name": at(part, "name"), "arguments": at(part, "arguments")}
            calls.append({"id": at(part, "id"), "type": "function", "function": function})
        elif kind == "tool_call_response":
            result = next((found for key in ("response", "result") if (found := at(part, key)) is not None), "")
            results.append({"role": "tool", "content": result if isinstance(result, str) else str(result)})
        elif kind == "reasoning":
            thoughts.append(str(at(part, "content")))
        else:
            texts.append({"type": kind or "part"})
    found: Message = {
        "role": role,
        "content": texts[0]["text"] if len(texts) == 1 and "text" in texts[0] else texts or None,
    }
    found |= {"tool_calls": calls} if calls else {}
    found |= {"reasoning_content": "\n".join(thoughts)} if thoughts else {}
    return results + ([found] if texts or calls or not results else [])


OPENTELEMETRY = Layout(
    name="opentelemetry",
    required=("resourceSpans|attributes|SpanAttributes", "resourceSpans|spanId|span_id|context.span_id|SpanId"),
    convert=convert,
    together=True,
)
