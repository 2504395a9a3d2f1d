"""Reasoning is taken out of an answer; a text that mentions a tag loses nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wildreward.common.reasoning import split_reasoning, with_reasoning

THOUGHT = "The user wants 7 * 13.\n\nThat is 91 (<b>not</b> prime)."
ANSWER = "No, 91 is 7 · 13.\n\n```py\nprint(7 * 13)\n```"
HARMONY = "<|channel|>analysis<|message|>{}<|end|><|start|>assistant<|channel|>final<|message|>{}<|return|>"
FORMS = (
    "<think>{}</think>{}",
    "<think>\n{}\n</think>\n\n{}",
    "  <Thinking> {} </thinking>\n{}",
    "{}\n</think>\n\n{}",
    "{}</think>\n\n{}",
    "{}\n[/THINK]\n{}",
    "[THINK]{}[/THINK]{}",
    "<seed:think>{}</seed:think>{}",
    "◁think▷{}◁/think▷{}",
    "<|begin_of_thought|>\n{}\n<|end_of_thought|>\n\n<|begin_of_solution|>\n{}\n<|end_of_solution|>",
    HARMONY,
    HARMONY.removesuffix("<|return|>"),
    "<|start|>assistant" + HARMONY,
    "<|channel>thought\n{}<channel|>{}",
    "analysis{}assistantfinal{}",
)


@pytest.mark.parametrize("form", FORMS)
def test_reasoning_is_taken_out_in_every_form(form):
    assert split_reasoning(form.format(THOUGHT, ANSWER)) == (ANSWER, THOUGHT)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>\n\n</think>\n\nParis", "Paris"),  # what a model writes that is told not to think
        ("<think>a</think>\n<think>b</think>\nParis", "Paris"),
        ("<think>It may write `</think>` itself.</think>Paris", "Paris"),
        ("<think>Should I open <think> again? No.</think>Paris", "Paris"),
        ("<think>\nOkay, the user wants a", ""),  # cut off: there is no answer
        ("<think>only thought</think>", ""),
        ("<|channel|>analysis<|message|>Cut off in the mid", ""),
        ('Maybe {"level": 2}?</think>{"level": 4}', '{"level": 4}'),
        ("It is praise.</think>\n\n4", "4"),
    ],
)
def test_what_is_left_is_the_answer(text, answer):
    assert split_reasoning(text).answer == answer


@pytest.mark.parametrize(
    "text",
    [
        "R1 writes <think> first and </think> after its thoughts.",
        "Models write `<think>…</think>` before the answer.",
        "<think> and </think> are the tags of R1.",
        "<think> is the tag that R1 begins with.",
        "Take what is behind the tag: text.split('</think>')[1].",
        're.sub(r"<think>.*?</think>", "", text)',
        "```\nhm\n</think>\n4\n```\nis what it looks like.",
        "Indented:\n\n    </think>\n\nand on.",
        "First <think>x</think> in the middle.",
        "End it with </think>\nand go on.",
        "[THINK] is Magistral's mark.",
        "analysis of the finals: the assistant won",
        "<thinker>no tag of a model</thinker>",
        "<div>a</div>",
        "The end is\n</think>",
    ],
)
def test_a_mention_loses_nothing(text):
    assert split_reasoning(text) == (text, "")


tags = st.sampled_from(["<think>", "</think>", "[THINK]", "[/THINK]", "</thinking>", "<|end_of_thought|>"])
words = st.text("ab .,\n", max_size=12)


@given(
    st.lists(st.tuples(words, tags), max_size=4),
    words,
    st.sampled_from(["`{}`", "'{}'", ' "{}" ', " {} ", "\n    {}\n"]),
)
def test_tags_that_are_quoted_or_stand_within_a_sentence_lose_nothing(pieces, end, quoted):
    text = "So: " + "".join(f"{word}x{quoted.format(tag)}" for word, tag in pieces) + end
    assert split_reasoning(text) == (text, "")


@given(st.text("ab<>/think[]THINK`\n |channel", max_size=60))
def test_reading_what_was_read_finds_nothing_more(text):
    answer = split_reasoning(text).answer
    assert split_reasoning(answer) == (answer, "")


@given(st.sampled_from(FORMS), st.text("abc .\n", min_size=1, max_size=20).map(str.strip).filter(bool))
def test_the_answer_does_not_depend_on_the_form(form, answer):
    assert split_reasoning(form.format(THOUGHT, answer)).answer == answer
    assert split_reasoning(with_reasoning(answer, THOUGHT)) == (answer, THOUGHT)
