"""The reader of chats: what comes, and what becomes of it."""

import json

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from wildreward.common.chat import GAP, STEPS_BUDGET, read_chat, read_conversation, read_messages

CALL = {"tool_calls": [{"id": "1", "type": "function", "function": {"name": "find", "arguments": '{"q": 1}'}}]}


def user(content):
    return {"role": "user", "content": content}


def assistant(content, **more):
    return {"role": "assistant", "content": content, **more}


def tool(content):
    return {"role": "tool", "content": content}


def system(content):
    return {"role": "system", "content": content}


def read(messages, **options):
    """(role, content) of each message."""
    return [(message["role"], message["content"]) for message in read_chat(messages, **options).messages]


# One table: name → what comes, what becomes of it. The docs have the same in words.
TABLE = {
    "roles under other names": (
        [{"role": "developer", "content": "s"}, {"role": "Human", "content": "q"}, {"role": "AI", "content": "a"}],
        "s: s, u: q, a: a",
    ),
    "ShareGPT's keys": ([{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "u: q, a: a"),
    "one part": ([user([{"type": "input_text", "text": "q"}]), assistant([{"type": "output_text", "text": "a"}])], "u: q, a: a"),
    "several parts": ([user([{"type": "text", "text": "q"}, {"type": "text", "text": " r"}]), assistant("a")], "u: q r, a: a"),
    "text with a value": ([user([{"type": "text", "text": {"value": "q"}}]), assistant("a")], "u: q, a: a"),
    "an image": ([user([{"type": "text", "text": "q"}, {"type": "image_url", "image_url": {"url": "x"}}])], "u: q⏎[image]"),
    "an unknown part": ([user([{"type": "chart", "points": [1]}])], 'u: [chart {"points": [1]}]'),
    "an unknown part with text": ([user([{"type": "note", "text": "q"}])], "u: q"),
    "tools of OpenAI": ([user("q"), assistant(None, **CALL), tool("r"), assistant("a")], 'u: q, t: find({"q": 1})⏎r, a: a'),
    "something said before tools": (
        [user("q"), assistant("wait", **CALL), tool("r"), assistant("a")],
        'u: q, t: wait⏎find({"q": 1})⏎r, a: a',
    ),
    "nothing said after tools": (
        [user("q"), assistant("done", **CALL), tool("r"), user("ok")],
        'u: q, t: find({"q": 1})⏎r, a: done, u: ok',
    ),
    "tools of Anthropic": (
        [
            user("q"),
            assistant([{"type": "text", "text": "wait"}, {"type": "tool_use", "name": "f", "input": {}}]),
            user([{"type": "tool_result", "content": [{"type": "text", "text": "r"}]}]),
            assistant([{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "a"}]),
        ],
        "u: q, t: wait⏎f({})⏎r, a: a",
    ),
    "tools of Gemini": (
        [
            {"role": "user", "parts": [{"text": "q"}]},
            {"role": "model", "parts": [{"text": "hm", "thought": True}, {"functionCall": {"name": "f", "args": {}}}]},
            {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"r": 1}}}]},
            {"role": "model", "parts": [{"text": "a"}]},
        ],
        'u: q, t: f({})⏎{"r": 1}, a: a',
    ),
    "items of OpenAI's Responses": (
        [
            user("q"),
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
            {"type": "function_call", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "output": "r"},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a"}]},
        ],
        "u: q, t: f({})⏎r, a: a",
    ),
    "parts of the AI SDK": (
        [user("q"), assistant("", parts=[{"type": "tool-f", "input": {}, "output": "r"}, {"type": "text", "text": "a"}])],
        "u: q, t: f({})⏎r, a: a",
    ),
    "LangChain": ([{"type": "human", "data": {"content": "q"}}, {"type": "ai", "data": {"content": "a"}}], "u: q, a: a"),
    "a refusal beside null": ([user("q"), assistant(None, refusal="No.")], "u: q, a: No."),
    "reasoning in the text": ([user("q"), assistant("<think>hm</think>a")], "u: q, a: a"),
    "reasoning beside it": ([user("q"), assistant("a", reasoning_content="hm")], "u: q, a: a"),
    "a tag that the user wrote": ([user("<think>x</think>q"), assistant("a")], "u: <think>x</think>q, a: a"),
    "two messages of the user": ([user("q"), user("r"), assistant("a")], "u: q⏎⏎r, a: a"),
    "the same twice": ([user("q"), user("q"), assistant("a"), assistant("a")], "u: q, a: a"),
    "two answers": ([user("q"), assistant("a"), assistant("b")], "u: q, a: a⏎⏎b"),
    "system messages in front": ([system("s"), {"role": "developer", "content": "t"}, user("q")], "s: s⏎⏎t, u: q"),
    "a system message before the answer": ([user("p"), assistant("a"), user("q"), system("s"), assistant("b")], "u: p, a: a, s: s, u: q, a: b"),
    "a system message after the answer": ([user("q"), assistant("a"), system("s"), user("r")], "u: q, a: a, s: s, u: r"),
    "an empty answer": ([user("q"), assistant(""), user("r"), assistant("b")], "u: q, u: r, a: b"),
    "an unknown role": ([user("q"), {"role": "narrator", "content": "x"}, assistant("a"), user("r")], "u: q, x: , a: a, u: r"),
    "no text": ([user("q"), assistant("a"), user(7), assistant("b"), user("r")], "u: q, a: a, x: , a: b, u: r"),
    "no message": ([user("q"), "hello", user("r")], "u: q, x: , u: r"),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_what_comes_and_what_becomes_of_it(name):
    messages, expected = TABLE[name]
    letters = {"system": "s", "user": "u", "assistant": "a", "tool": "t", GAP: "x"}
    found = ", ".join(f"{letters[role]}: {content}" for role, content in read(messages))
    assert found.replace("\n", "⏎") == expected


def test_kept_reasoning_has_one_form_wherever_it_came_from():
    beside = [user("q"), assistant("a", reasoning="hm")]
    within = [user("q"), assistant("<think>\nhm\n</think>\n\na")]
    part = [user("q"), assistant([{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "a"}])]
    assert read(beside, keep_reasoning=True) == read(within, keep_reasoning=True) == read(part, keep_reasoning=True)
    assert read(beside, keep_reasoning=True)[1] == ("assistant", "<think>\nhm\n</think>\n\na")


def test_what_led_to_an_answer_stays_within_its_budget():
    long = [user("q"), *[assistant(None, **CALL), tool("x" * 9_000 + "end")] * 9, assistant("a")]
    (_, question), (role, steps), (_, answer) = read(long)
    assert (question, role, answer) == ("q", "tool", "a")
    assert len(steps) <= STEPS_BUDGET and "characters left out" in steps
    assert steps.startswith('find({"q": 1})') and steps.endswith("end")
    assert [note.what for note in read_chat(long).notes] == ["answers_with_tools", "tool_steps_cut"]


@pytest.mark.parametrize(
    ("messages", "wrong"),
    [
        ("text", "chat is a text of 4 characters; expected a list of messages"),
        ([user([{"type": "text", "text": None}])], r"chat, message 1 is an object with role \(text\), content \(list\); expected"),
        ([user("q"), assistant(None)], r"chat, message 2 is .*content \(None\); expected .* \(it has no content\)"),
        ([user("q"), {"role": "narrator", "content": "x"}], "chat, message 2 has an unknown role; expected user, assistant"),
        ([user("q"), assistant(None, **CALL), tool("r")], "chat does not end with the assistant's answer"),
        ([user("q"), assistant("wait", **CALL)], "chat does not end with the assistant's answer"),
        ([user("q"), assistant("a"), user("r")], "chat does not end with the assistant's answer"),
        ([], "chat does not end with the assistant's answer"),
    ],
)  # fmt: skip
def test_who_asks_for_a_score_is_told_what_cannot_be_read(messages, wrong):
    with pytest.raises(ValueError, match=wrong):
        read_conversation(messages, "chat")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
texts = st.text("ab <>/think\n", max_size=12)
kinds = st.sampled_from(["text", "thinking", "tool_use", "tool_result", "tool-x", "image", "note"])
keys = st.sampled_from(["text", "thinking", "input", "content", "output", "name"])
part_lists = st.lists(st.dictionaries(keys, texts | json_values, max_size=2).flatmap(lambda p: kinds.map(lambda k: p | {"type": k})), max_size=3)  # fmt: skip
role_names = st.sampled_from(["user", "assistant", "system", "tool", "ai", "developer", "Human", "nobody"])
messages_of_any_kind = st.lists(
    st.fixed_dictionaries(
        {"role": role_names, "content": texts | part_lists | json_values},
        optional={"tool_calls": st.just(CALL["tool_calls"]), "reasoning": texts, "refusal": texts, "parts": part_lists},
    ),
    max_size=7,
)


@settings(suppress_health_check=[HealthCheck.too_slow])  # the first input of a busy machine
@given(messages_of_any_kind, st.booleans())
@example([user(""), user(""), assistant(""), assistant("", **CALL)], False)  # nothing is joined to nothing
@example([user("q"), assistant("<think>"), assistant("hm</think>")], False)  # reasoning in two messages
def test_reading_what_was_read_changes_nothing(messages, keep):
    chat = read_chat(messages, keep_reasoning=keep, strict=True)
    if not chat.lost:
        assert read_messages(chat.messages, "chat", keep_reasoning=keep) == chat.messages
        assert [message["role"] for message in chat.messages].count(GAP) == 0


@given(messages_of_any_kind)
def test_no_chat_breaks_the_reader_and_answers_stand_behind_a_question(messages):
    chat = read_chat(messages)
    roles = [message["role"] for message in chat.messages]
    assert len(roles) == len(chat.places) and roles.count(GAP) == len(chat.lost)
    json.dumps(chat.messages)
    for place, role in enumerate(roles):
        if role == "tool" and "assistant" in roles[place + 1 : place + 2]:
            assert "tool" not in roles[place + 2 : place + 3]
        assert not (role == "assistant" and roles[place + 1 : place + 2] == ["assistant"])
    assert all(message["content"].strip() for message in chat.messages if message["role"] != GAP)


@given(st.text(max_size=30).filter(lambda text: text.strip()), st.data())
def test_the_packing_of_a_text_says_nothing(text, data):
    if text != text.encode("utf-8", "replace").decode():
        return
    cut = data.draw(st.integers(0, len(text)))
    packed = [
        text,
        [{"type": "output_text", "text": text}],
        [{"type": "text", "text": text[:cut]}, {"type": "text", "text": text[cut:]}],
        {"type": "text", "text": text},
        {"parts": [text]},
    ]
    assert len({str(read([user("q"), assistant(content)])) for content in packed}) == 1


cards = st.fixed_dictionaries(
    {"type": st.sampled_from(["card", "chart"]), "data": st.just("x")},
    optional={"body": st.text("ab", max_size=3), "text": st.text("ab", max_size=3)},
)


@given(cards, cards)
def test_different_parts_of_unknown_types_are_different_texts(first, second):
    same = first == second or (first.get("text") == second.get("text") is not None)
    assert (read([user([first])]) == read([user([second])])) == same


said = st.text("ab <>/think\n\ud800ä", max_size=12)
spoken = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "gpt", "system"]), "content": said}), max_size=6
)


@given(spoken, st.booleans(), st.sampled_from([None, 20]))
def test_the_short_cut_for_plain_chats_changes_nothing(messages, strict, room):
    long_way = [message | {"reasoning": None} for message in messages]
    options = {"strict": strict, "max_characters": room}
    assert read_chat(messages, **options) == read_chat(long_way, **options)
