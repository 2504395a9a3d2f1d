"""What Langfuse exports: traces, observations and scores, from its interface, its API or its integration with a storage.

    {"traceId": …, "type": "GENERATION", "startTime": …, "sessionId": …, "userId": …, "model": …,
        "input": [messages] or {"messages": […]}, "output": {"role": "assistant", "content": …}}
    {"traceId": …, "name": "user-feedback", "value": 1, "dataType": "BOOLEAN"}

Names come as `traceId` or `trace_id`; in CSV files input and output are JSON text.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from wildreward.dataset_builder.sources.grouping import chats_of_calls, grouped, messages_in
from wildreward.dataset_builder.sources.layouts import Columns, Layout, parsed

# A person's, by the name of the score; others come from models that judge.
_BY_USERS = re.compile(r"feedback|thumb|rating|\blike|vote|star|satisf", re.I)


def convert(records: Iterable[Any], columns: Columns) -> Iterator[Any]:
    """One row for each session, or for each trace without one."""
    traces = ((name, _field(part, "startTime", "timestamp"), part) for name, part in _parts(records))
    yield from chats_of_calls(call for name, parts in grouped(traces) for call in _calls(name, parts))


def _field(record: dict, *names: str) -> Any:
    """What stands under the first of the names that has anything, `traceId` or `trace_id`."""
    for name in names:
        for key in (name, re.sub(r"([A-Z])", r"_\1", name).lower()):
            if record.get(key) not in (None, ""):
                return record[key]
    return None


def _parts(records: Iterable[Any]) -> Iterator[tuple[Any, dict]]:
    """Traces, observations and scores, each with the trace's name."""
    for record in records:
        if not isinstance(record, dict):
            continue
        name = _field(record, "traceId", "id", "sessionId")
        yield name, record
        for key in ("observations", "scores"):
            inner = parsed(record.get(key))
            yield from ((name, part) for part in (inner if isinstance(inner, list) else ()) if isinstance(part, dict))


def _calls(name: str, parts: list[dict]) -> Iterator[tuple[Any, Any, dict]]:
    """The calls of a trace: its generations; where none can be read, the trace itself."""
    session = next((value for part in parts if (value := _field(part, "sessionId"))), name)
    user = next((value for part in parts if (value := _field(part, "userId"))), None)
    ratings = [_rating(part) for part in parts if _is_score(part) and _BY_USERS.search(str(part.get("name")))]
    calls = []
    for part in parts:
        said = (
            messages_in(_unpacked(part.get("input")), "user"),
            messages_in(_unpacked(part.get("output")), "assistant"),
        )
        if all(said) and not _is_score(part):
            more = {"user": user, "model": _field(part, "providedModelName", "model"), "name": part.get("name")}
            kind = str(part.get("type")).upper()
            calls.append((kind, _field(part, "startTime", "timestamp"), {"input": said[0], "output": said[1], **more}))
    generations = [call for call in calls if call[0] == "GENERATION"]
    chosen = generations or calls[:1]
    for place, (_, time, call) in enumerate(chosen):
        if ratings and place == len(chosen) - 1:
            call["rating"] = ratings[-1]
        yield session, time, call


def _unpacked(value: Any) -> Any:
    """JSON as what it stands for; in a storage, a plain text is JSON, too."""
    if isinstance(value, str) and value.startswith('"'):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return parsed(value)


def _is_score(part: dict) -> bool:
    return "input" not in part and ("value" in part or "stringValue" in part or "string_value" in part)


def _rating(part: dict) -> Any:
    text = _field(part, "stringValue")
    boolean = str(_field(part, "dataType")).upper() == "BOOLEAN"
    value = part.get("value")
    if boolean and value in (0, 1, "0", "1"):
        return "up" if value in (1, "1") else "down"
    return text if text is not None else value


LANGFUSE = Layout(
    name="langfuse",
    required=(
        "traceId|trace_id|sessionId|session_id|observations",
        "input|observations.input|dataType|data_type",  # the last two: scores
    ),
    convert=convert,
    together=True,
)
