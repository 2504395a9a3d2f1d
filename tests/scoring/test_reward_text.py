"""The reward model's input as text, there and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wildreward.scoring.reward_text import HEADER, parse_reward_text, render_reward_text

texts = st.lists(
    st.sampled_from(["cat", " ", "\n", "<query>", "<response>", "\n<user>\n", "<", ">", "< query>", "é", "user"]),
    max_size=8,
).map("".join)
turns = st.lists(st.tuples(st.sampled_from(["user", "assistant", "system", "tool"]), texts), max_size=6)


@given(turns, texts)
def test_reading_back_what_was_rendered_gives_the_same_text_again(before, answer):
    messages = [{"role": role, "content": content} for role, content in [*before, ("assistant", answer)]]
    text = render_reward_text(messages)
    read = parse_reward_text(text)
    assert [message["role"] for message in read] == [message["role"] for message in messages]
    assert render_reward_text(read) == text


def test_by_hand():
    text = "Rate how well the last response serves the user.\n<history>\n<user>\na\nb\n<assistant>\nc\n<query>\nd\n<response>\ne"
    roles = ["user", "assistant", "user", "assistant"]
    assert parse_reward_text(text) == [
        {"role": role, "content": content} for role, content in zip(roles, ("a\nb", "c", "d", "e"), strict=True)
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        HEADER,
        HEADER + "<query>\nq",
        "x\n" + HEADER + "<query>\nq\n<response>\na",
        "<|im_start|>user\nhi",
        "<query>\nq",
        "<response>\na\n<query>\nq\n",
        "x <response>",
    ],
)
def test_another_text_is_refused(text):
    with pytest.raises(ValueError, match="not a reward model's input"):
        parse_reward_text(text)
