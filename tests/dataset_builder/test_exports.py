"""What chat applications, tracers and arenas export becomes conversations: the path that the user kept, and ratings."""

import json
import random
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dataset_builder import exported
from tests.dataset_builder.exported import ASK, KEPT, MORE, RIGHT, SWIM, THANKS, WRONG, generation, otlp, span
from wildreward.dataset_builder.prepare import prepare, with_layouts
from wildreward.dataset_builder.records import Conversation, Rejected
from wildreward.dataset_builder.settings import BuildSettings
from wildreward.dataset_builder.sources.files import InputErrors
from wildreward.dataset_builder.sources.finding import EXPORTS, LAYOUTS, TABLES
from wildreward.dataset_builder.sources.layouts import hashed_user
from wildreward.dataset_builder.sources.readers import find_slices, read_slice


def rows_in(path, **options):
    """The layouts found, and the rows of all files."""
    errors = InputErrors()
    slices, layouts = with_layouts(find_slices(str(path), errors), BuildSettings(source=str(path), **options), errors)
    rows = [
        row
        for piece in slices
        for row in layouts[piece.path].rows(read_slice(piece, layouts[piece.path].wanted(), errors))
    ]
    return {layout.name for layout in layouts.values()}, rows


def written(folder, name, *records):
    path = folder / name
    lines = "".join(json.dumps(record) + "\n" for record in records)
    path.write_text(lines if name.endswith("jsonl") else json.dumps(list(records), indent=1))
    return path


def said(row):
    return [(message["role"], text_of(message["content"])) for message in row["messages"]]


def text_of(content):
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def ratings(row):
    return [message.get("rating") for message in row["messages"]]


BOTH = [("user", ASK), ("assistant", RIGHT), ("user", THANKS)]
TREES = [
    ("chatgpt", [exported.chatgpt()]),
    ("claude", [exported.claude_tree()]),
    ("openwebui", [exported.openwebui()]),
    ("librechat", [exported.librechat()]),
    ("librechat", [exported.librechat(recursive=True)]),
]


@pytest.mark.parametrize("name", ["conversations.json", "log.jsonl"])
@pytest.mark.parametrize(("layout", "records"), TREES)
def test_the_path_that_the_user_kept_and_what_was_generated_again(tmp_path, layout, records, name):
    found, rows = rows_in(written(tmp_path, name, *records))
    assert found == {layout}
    kept, again = rows
    assert [(role.replace("human", "user"), text) for role, text in said(kept)] == KEPT
    assert [text for _, text in said(again)] == [ASK, WRONG]
    assert ratings(again) == [None, "regenerated"]
    assert ratings(kept)[0] is ratings(kept)[2] is None
    assert kept["id"] == "c1" and again["id"].startswith("c1_")


def test_one_document_is_read_whole(tmp_path):
    path = tmp_path / "River.json"
    path.write_text(json.dumps(exported.librechat(recursive=True), indent=2))
    found, (kept, _) = rows_in(path)
    assert found == {"librechat"} and said(kept) == KEPT and ratings(kept) == [None, "up", None]
    assert kept["model"] == "gpt-4o"


def test_chatgpt_tools_thoughts_and_pictures(tmp_path):
    node = exported.chatgpt_node
    picture = {"content_type": "image_asset_pointer", "asset_pointer": "file-service://x", "width": 10}
    thoughts = {"content_type": "thoughts", "thoughts": [{"summary": "s", "content": "Let me think."}]}
    nodes = [
        node("q", None, ["t"], "user", content={"content_type": "multimodal_text", "parts": [picture, ASK]}),
        node("t", "q", ["c"], "assistant", content=thoughts),
        node("c", "t", ["r"], "assistant", recipient="python", content={"content_type": "code", "text": "1+1"}),
        node("r", "c", ["a"], "tool", content={"content_type": "execution_output", "text": "2"}),
        node("a", "r", ["f"], "assistant", RIGHT),
        node("f", "a", [], "user", THANKS),
    ]
    record = exported.chatgpt(mapping={each["id"]: each for each in nodes})
    _, (row,) = rows_in(written(tmp_path, "conversations.json", record))
    question, call, result, answer, _ = row["messages"]
    assert question["content"] == [{"type": "image"}, {"type": "text", "text": ASK}]
    assert call["content"] is None and call["tool_calls"][0]["function"] == {"name": "python", "arguments": "1+1"}
    assert (result["role"], result["content"], answer["content"]) == ("tool", "2", RIGHT)
    assert call["reasoning_content"] == "Let me think." and row["model"] == "gpt-4o"


FEEDBACK = [
    {"id": "a1", "conversation_id": "c1", "user_id": "user-x", "rating": "thumbs_down", "content": '{"tags": ["harmful"]}'},
    {"message_id": "a2", "conversation_id": "c1", "rating": "thumbsUp", "content": "{}"},
]  # fmt: skip


def packed(path, *names, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name in names:
            archive.write(path.parent / name, name)
    return path


@pytest.mark.parametrize("source", ["folder", "folder/export.zip"])
def test_chatgpt_ratings_lie_in_a_file_beside(tmp_path, source):
    (tmp_path / "folder").mkdir()
    written(tmp_path / "folder", "message_feedback.json", *FEEDBACK)
    written(tmp_path / "folder", "conversations-000.json", exported.chatgpt())
    written(tmp_path / "folder", "conversations-001.json", exported.chatgpt(conversation_id="c2"))
    written(tmp_path / "folder", "user.json", {"id": "user-x", "email": "x@y.org"})
    if source.endswith("zip"):
        names = ["conversations-000.json", "conversations-001.json", "message_feedback.json", "user.json"]
        packed(tmp_path / source, *names)
    found, rows = rows_in(tmp_path / source)
    assert found == {"chatgpt"} and [row["id"][:2] for row in rows] == ["c1", "c1", "c2", "c2"]
    for kept, again in (rows[:2], rows[2:]):
        assert said(kept) == KEPT and ratings(kept) == [None, "thumbsUp", None]
        assert ratings(again) == [None, "thumbs_down"]


def test_ratings_beside_are_part_of_what_a_build_depends_on(tmp_path):
    (tmp_path / "in").mkdir()
    written(tmp_path / "in", "conversations.json", exported.chatgpt())
    written(tmp_path / "in", "message_feedback.json", *FEEDBACK)
    settings = BuildSettings(
        source=str(tmp_path / "in"), output=str(tmp_path / "out"), mining_window=0, labeler="rating"
    )
    before = prepare(settings).compared["source_digest"]
    written(tmp_path / "in", "message_feedback.json", *FEEDBACK[1:])
    assert prepare(settings).compared["source_digest"] != before


def test_answers_side_by_side_are_not_generated_again(tmp_path):
    record = exported.chatgpt()
    for name in ("a1", "a2"):
        record["mapping"][name]["message"]["metadata"]["paragen_variants_info"] = {"num_variants_in_stream": 2}
    _, rows = rows_in(written(tmp_path, "conversations.json", record))
    assert len(rows) == 1
    chat = exported.openwebui()
    chat["chat"]["history"]["messages"]["a1"]["modelIdx"] = 1
    _, rows = rows_in(written(tmp_path, "chats.json", chat))
    assert len(rows) == 1


def test_a_branch_with_more_talk_in_it_and_the_newer_answer_are_not_generated_again(tmp_path):
    """The user talked on, edited a question, or went back to the first answer."""
    record = exported.chatgpt()
    record["mapping"]["a1"]["children"] = ["g"]
    record["mapping"]["g"] = exported.chatgpt_node("g", "a1", [], "user", MORE, 5.0)
    _, rows = rows_in(written(tmp_path, "a.json", record))
    assert [said(row) for row in rows] == [KEPT]
    _, rows = rows_in(written(tmp_path, "b.json", exported.chatgpt(current_node="a1")))
    assert [said(row) for row in rows] == [[("user", ASK), ("assistant", WRONG)]]


def test_open_webui_ratings_of_messages_and_in_their_own_export(tmp_path):
    _, (kept, again) = rows_in(written(tmp_path, "all-chats.json", exported.openwebui(rating=1)))
    assert ratings(kept) == [None, "up", None] and ratings(again) == [None, "regenerated"]
    assert (kept["user"], kept["model"]) == ("u1", "llama3.1:8b")
    found, (kept, _) = rows_in(written(tmp_path, "feedbacks.json", exported.openwebui_feedback()))
    assert found == {"openwebui"} and ratings(kept) == [None, "down", None] and said(kept) == KEPT


def test_claude_without_a_tree_with_files_and_thinking(tmp_path):
    record = exported.claude()
    record["chat_messages"][0]["attachments"] = [{"file_name": "map.txt", "extracted_content": "x"}]
    thinking = {"type": "thinking", "thinking": "Hm."}
    record["chat_messages"][1]["content"].insert(0, thinking)
    _, (row,) = rows_in(written(tmp_path, "conversations.json", record))
    question, answer, follow_up = (message["content"] for message in row["messages"])
    assert question[0] == {"type": "file"} and question[1]["text"] == ASK and answer[0] == thinking
    assert follow_up == THANKS and row["user"] == "u1"


@pytest.mark.parametrize(
    ("winner", "expected"),
    [("model_a", ("up", "down")), ("b", ("down", "up")), ("tie", (None, None)), ("tie (bothbad)", ("down", "down"))],
)
def test_an_arena_row_is_two_conversations_with_a_vote(tmp_path, winner, expected):
    found, rows = rows_in(written(tmp_path, "arena.jsonl", {**exported.arena(winner), "toxic": False}))
    assert all(row["toxic"] is False for row in rows)
    assert found == {"arena"} and [said(row)[1][1] for row in rows] == [RIGHT, WRONG]
    assert tuple(ratings(row)[-1] for row in rows) == expected
    assert [row["id"] for row in rows] == ["c1_a", "c1_b"] and rows[1]["model"] == "y"


def test_arena_rows_with_prompts_and_answers_as_json(tmp_path):
    row = {"id": 7, "prompt": json.dumps([ASK, MORE]), "winner_model_a": 0, "winner_model_b": 1, "winner_tie": 0}
    row |= {"response_a": json.dumps([WRONG, SWIM]), "response_b": json.dumps([RIGHT, SWIM])}
    _, (first, second) = rows_in(written(tmp_path, "train.jsonl", row))
    assert said(second) == [("user", ASK), ("assistant", RIGHT), ("user", MORE), ("assistant", SWIM)]
    assert (ratings(first)[-1], ratings(second)[-1]) == ("down", "up")


CALLS = [
    ([("system", "Be kind."), ("user", ASK)], RIGHT),
    ([("system", "Be kind."), ("user", ASK), ("assistant", RIGHT), ("user", MORE)], SWIM),
]
WHOLE = [("system", "Be kind."), ("user", ASK), ("assistant", RIGHT), ("user", MORE), ("assistant", SWIM)]


@pytest.mark.parametrize("name", ["observations.jsonl", "observations.json"])
def test_langfuse_calls_of_a_session_are_one_conversation(tmp_path, name):
    calls = [generation(number, *call) for number, call in enumerate(CALLS)]
    title = generation(5, [("user", "Give this chat a title.")], "Rivers", name="title")
    found, rows = rows_in(written(tmp_path, name, calls[1], title, calls[0]))
    assert found == {"langfuse"} and [said(row) for row in rows] == [
        WHOLE,
        [("user", "Give this chat a title."), ("assistant", "Rivers")],
    ]
    assert (rows[0]["id"], rows[0]["user"], rows[0]["model"]) == ("c1", "u1", "gpt-4o")


def test_langfuse_traces_with_plain_texts_scores_and_pages(tmp_path):
    """As its API gives pages of them; each trace is one question and its answer. Snake case is that of its storage."""
    common = {"sessionId": "c1", "name": "chat", "userId": "u1"}
    traces = [
        {"id": "t1", "timestamp": "2026-01-01T00:00:01Z", "input": {"query": ASK}, "output": RIGHT, **common},
        {"id": "t2", "timestamp": "2026-01-01T00:00:02Z", "input": {"query": MORE}, "output": SWIM, **common},
    ]
    (tmp_path / "api").mkdir()
    (tmp_path / "api" / "page.json").write_text(json.dumps({"data": traces, "meta": {"page": 1}}, indent=2))
    found, (row,) = rows_in(tmp_path / "api")
    assert found == {"langfuse"} and said(row) == WHOLE[1:]

    score = {"id": "s1", "trace_id": "t1", "name": "user-feedback", "value": 1, "data_type": "BOOLEAN", "source": "API"}
    judged = score | {"id": "s2", "name": "helpfulness", "value": 0}
    stored = [
        {"id": f"o{place}", "trace_id": trace["id"], "type": "GENERATION", "start_time": trace["timestamp"]}
        | {
            "name": "chat",
            "session_id": "c1",
            "input": json.dumps(trace["input"]),
            "output": json.dumps(trace["output"]),
        }
        for place, trace in enumerate(traces)
    ]
    (tmp_path / "storage").mkdir()
    written(tmp_path / "storage", "observations.jsonl", *stored)
    written(tmp_path / "storage", "scores.jsonl", score, judged)
    _, (row,) = rows_in(tmp_path / "storage")
    assert said(row) == WHOLE[1:] and ratings(row) == [None, "up", None, None]


def test_opentelemetry_spans_are_one_conversation(tmp_path):
    spans = [span(number, *call) for number, call in enumerate(CALLS)]
    found, (row,) = rows_in(written(tmp_path, "traces.jsonl", otlp(spans[1]), otlp(spans[0])))
    assert found == {"opentelemetry"} and said(row) == WHOLE and row["model"] == "gpt-4o" and row["id"] == "c1"
    path = tmp_path / "document.json"
    path.write_text(json.dumps(otlp(*spans), indent=2))
    assert [said(row) for row in rows_in(path)[1]] == [WHOLE]


def test_opentelemetry_events_indexed_attributes_and_tools(tmp_path):
    """Older conventions, and spans as a console prints them."""
    events = [
        {"name": "gen_ai.user.message", "attributes": {"content": ASK}},
        {"name": "gen_ai.choice", "attributes": {"message": json.dumps({"role": "assistant", "content": RIGHT})}},
    ]
    plain = {"name": "chat", "context": {"trace_id": "0x1", "span_id": "0x2"}, "start_time": "2026", "attributes": {}}
    indexed = {
        f"gen_ai.prompt.{n}.{key}": text
        for n, pair in enumerate(CALLS[1][0])
        for key, text in zip(("role", "content"), pair, strict=True)
    }
    indexed |= {"gen_ai.completion.0.role": "assistant", "gen_ai.completion.0.content": SWIM}
    other = plain | {"context": {"trace_id": "0x3", "span_id": "0x4"}, "attributes": indexed}
    http = plain | {"context": {"trace_id": "0x5", "span_id": "0x6"}, "attributes": {"http.method": "GET"}}
    found, rows = rows_in(written(tmp_path, "console.jsonl", http, plain | {"events": events}, other))
    assert found == {"opentelemetry"}
    assert [said(row) for row in rows] == [[("user", ASK), ("assistant", RIGHT)], WHOLE]

    call = {"type": "tool_call", "id": "1", "name": "search", "arguments": {"q": "river"}}
    asked = [
        {"role": "user", "parts": [{"type": "text", "content": ASK}]},
        {"role": "assistant", "parts": [{"type": "reasoning", "content": "Hm."}, call]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "1", "response": "Vltava"}]},
    ]
    tools = span(1, [], RIGHT, **{"gen_ai.input.messages": {"stringValue": json.dumps(asked)}})
    _, (row,) = rows_in(written(tmp_path, "tools.jsonl", otlp(tools)))
    _, calling, result, answer = row["messages"]
    assert calling["tool_calls"][0]["function"]["name"] == "search" and calling["reasoning_content"] == "Hm."
    assert (result["role"], result["content"], answer["content"]) == ("tool", "Vltava", RIGHT)


def lines(count=6):
    texts = [(f"c{chat}", turn, role, text) for chat in range(count) for turn, (role, text) in enumerate(WHOLE[1:])]
    return [
        {"conversation_id": chat, "turn": turn, "role": role, "content": text, "user_id": f"u{chat}"}
        | ({"rating": 5} if turn == 1 else {})
        for chat, turn, role, text in texts
    ]


def test_messages_that_lie_apart_are_put_together_across_files(tmp_path):
    records = lines()
    random.Random(3).shuffle(records)
    written(tmp_path, "a.jsonl", *records[:9])
    written(tmp_path, "b.jsonl", *records[9:])
    found, rows = rows_in(tmp_path)
    assert found == {"lines"} and [row["id"] for row in rows] == [f"c{number}" for number in range(6)]
    assert all(said(row) == WHOLE[1:] and ratings(row) == [None, 5, None, None] for row in rows)
    assert rows[2]["user"] == "uc2"


def test_names_of_a_table_of_messages_are_given(tmp_path):
    renamed = [{"call": r["conversation_id"], "who": r["role"], "words": r["content"], "at": 1} for r in lines(2)]
    options = {"id_column": "call", "role_key": "who", "content_key": "words"}
    found, rows = rows_in(written(tmp_path, "a.jsonl", *renamed), **options)
    assert found == {"lines"} and [said(row) for row in rows] == [WHOLE[1:]] * 2


def test_a_table_of_questions_and_answers(tmp_path):
    pairs = [("c1", ASK, RIGHT), ("c2", ASK, WRONG), ("c1", MORE, SWIM)]
    records = [{"conversation_id": c, "prompt": q, "response": a, "rating": 4} for c, q, a in pairs]
    found, rows = rows_in(written(tmp_path, "a.jsonl", *records))
    assert found == {"exchanges"} and [said(row) for row in rows] == [WHOLE[1:], [("user", ASK), ("assistant", WRONG)]]
    assert ratings(rows[0]) == [None, 4, None, 4]


def test_questions_that_bring_what_was_said_before_are_conversations_of_their_own(tmp_path):
    """A log of a model's requests, with what came back."""
    asked = [[{"role": role, "content": text} for role, text in call[0]] for call in CALLS]
    reply = {"role": "assistant", "content": [{"type": "output_text", "text": SWIM}]}
    records = [
        {
            "session_id": "c1",
            "prompt": asked[0],
            "response": {"choices": [{"message": {"role": "assistant", "content": RIGHT}}]},
        },
        {"session_id": "c1", "prompt": json.dumps(asked[1]), "response": [reply]},
    ]
    found, rows = rows_in(written(tmp_path, "a.jsonl", *records))
    assert found == {"exchanges"} and [said(row) for row in rows] == [WHOLE[:3], WHOLE]


def test_a_tree_of_messages_in_lines_gives_the_path_to_the_last(tmp_path):
    texts = [
        ("q", None, "prompter", ASK),
        ("a1", "q", "assistant", WRONG),
        ("a2", "q", "assistant", RIGHT),
        ("f", "a2", "prompter", THANKS),
    ]
    records = [
        {"message_id": name, "parent_id": parent, "message_tree_id": "q", "role": role, "text": text}
        for name, parent, role, text in texts
    ]
    _, (row,) = rows_in(written(tmp_path, "trees.jsonl", *records))
    assert [text for _, text in said(row)] == [ASK, RIGHT, THANKS]


TABLE = [  # layout, file, its records, turns with a follow-up that a person would count
    ("chatgpt", "conversations.json", [exported.chatgpt()], 1),
    ("claude", "conversations.json", [exported.claude()], 1),
    ("claude", "conversations.json", [exported.claude_tree()], 1),
    ("openwebui", "all-chats.json", [exported.openwebui()], 1),
    ("openwebui", "feedback.json", [exported.openwebui_feedback()], 1),
    ("librechat", "chats.json", [exported.librechat()], 1),
    ("librechat", "chats.jsonl", [exported.librechat(recursive=True)], 1),
    ("arena", "battles.jsonl", [{**exported.arena(), f"conversation_{side}": [*exported.arena()[f"conversation_{side}"], {"role": "user", "content": MORE}, {"role": "assistant", "content": SWIM}]} for side in "ab"], 2),
    ("langfuse", "observations.jsonl", [generation(number, *call) for number, call in enumerate(CALLS)], 1),
    ("opentelemetry", "traces.jsonl", [otlp(*(span(number, *call) for number, call in enumerate(CALLS)))], 1),
    ("lines", "messages.jsonl", lines(6), 6),
    ("lines", "said.jsonl", [{"session_id": 1, "from": "human", "value": text} | ({"from": "gpt"} if place % 2 else {}) for place, text in enumerate((ASK, RIGHT, MORE))], 1),
    ("exchanges", "log.jsonl", [{"session_id": 1, "question": ASK, "answer": RIGHT}, {"session_id": 1, "question": MORE, "answer": SWIM}], 1),
]  # fmt: skip


@pytest.mark.parametrize(("layout", "name", "records", "turns"), TABLE)
def test_turns_expected_and_taken(tmp_path, layout, name, records, turns):
    found, rows = rows_in(written(tmp_path, name, *records))
    conversations = [LAYOUTS[layout].to_conversation(row) for row in rows]
    asked = [sum(message.role == "user" for message in conversation.messages) for conversation in conversations]
    assert found == {layout} and sum(number - 1 for number in asked) == turns


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIXTURES = [
    *(record for _, records in TREES for record in records),
    exported.openwebui_feedback(),
    exported.arena(),
    generation(1, *CALLS[0]),
    otlp(span(1, *CALLS[1])),
    lines(1)[0],
    {"prompt": ASK, "response": RIGHT},
]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(FIXTURES), st.data())
def test_no_record_breaks_an_export(fixture, data):
    """Something else is put at some place of a record that was right."""
    record = json.loads(json.dumps(fixture))
    inner, path = record, []
    while isinstance(inner, dict | list) and inner:
        keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
        key = data.draw(st.sampled_from(keys))
        path.append((inner, key))
        inner = inner[key]
    place, key = data.draw(st.sampled_from(path))
    place[key] = data.draw(json_values)
    for layout in (*EXPORTS, *TABLES):
        for row in layout.rows([record, "text", None]):
            assert isinstance(layout.to_conversation(row), Conversation | Rejected)


def test_a_row_of_an_export_becomes_a_conversation():
    layout = EXPORTS[0]
    got = layout.to_conversation(next(layout.rows([exported.chatgpt()])))
    assert got.num_turns == 1 and got.model == "gpt-4o" and got.user_id is None
    got = EXPORTS[2].to_conversation(next(EXPORTS[2].rows([exported.openwebui()])))
    assert got.user_id == hashed_user("u1") and got.source_id == "c1"
