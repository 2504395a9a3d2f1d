"""Scores know what was said, not how it was packed: the same reader stands before every scorer and reward function."""

import pytest

from tests.scoring.test_serving import Served
from tests.tiny import reward_model, tokenizer_for
from wildreward import RewardScorer
from wildreward.scoring import RewardFunction

ASKED = {"role": "user", "content": "What is the capital of France?"}
CALL = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "find", "arguments": "{}"}}]}
RESULT = {"role": "tool", "content": "Paris"}
ANSWER = "It is Paris, on the Seine."
THOUGHT = "The user asks for a capital."


def chat(content, **more):
    return [ASKED, {"role": "assistant", "content": content, **more}]


SAME = {
    "one part": chat([{"type": "text", "text": ANSWER}]),
    "another type": chat([{"type": "output_text", "text": ANSWER}]),
    "several parts": chat([{"type": "output_text", "text": ANSWER[:8]}, {"type": "output_text", "text": ANSWER[8:]}]),
    "a question in parts": [{"role": "human", "content": [{"type": "input_text", "text": ASKED["content"]}]}, *chat(ANSWER)[1:]],
    "reasoning in tags": chat(f"<think>{THOUGHT}</think>\n\n{ANSWER}"),
    "the closing tag alone": chat(f"{THOUGHT}\n</think>\n\n{ANSWER}"),
    "[THINK]": chat(f"[THINK]{THOUGHT}[/THINK]{ANSWER}"),
    "channels": chat(
        f"<|channel|>analysis<|message|>{THOUGHT}<|end|><|start|>assistant<|channel|>final<|message|>{ANSWER}<|return|>"
    ),
    "a field beside": chat(ANSWER, reasoning_content=THOUGHT),
    "a part": chat([{"type": "thinking", "thinking": THOUGHT}, {"type": "text", "text": ANSWER}]),
}  # fmt: skip
DIFFERENT = [
    [{"type": "output_text", "text": "I hate you"}],
    [{"type": "card", "text": "I hate you!"}],
    [{"type": "card", "body": "Paris"}],
    [{"type": "card", "body": "I hate you"}],
    [{"type": "image_url", "image_url": {"url": "x"}}],
]


@pytest.fixture(scope="module")
def scorer():
    return RewardScorer(reward_model("llama"), tokenizer_for("llama"))


@pytest.mark.parametrize("name", SAME)
def test_the_same_text_has_the_same_score_however_it_is_packed(scorer, name):
    assert scorer.encode([SAME[name]]) == scorer.encode([chat(ANSWER)])
    before, answer = SAME[name][:-1], SAME[name][-1:]
    assert scorer.score_candidates(before, [answer]) == pytest.approx(scorer.score([chat(ANSWER)]), abs=1e-5)
    assert RewardFunction(lambda chats: scorer.score(chats))([before], [answer]) == pytest.approx(
        scorer.score([chat(ANSWER)]), abs=1e-5
    )


def test_different_texts_in_parts_of_any_type_do_not_score_equal(scorer):
    scores = scorer.score([chat(content) for content in [ANSWER, *DIFFERENT]])
    assert len({round(score, 6) for score in scores}) == len(scores)


def test_reasoning_is_judged_where_asked_for():
    keeping = RewardScorer(reward_model("llama"), tokenizer_for("llama"), keep_reasoning=True)
    plain, within, beside = keeping.encode(
        [chat(ANSWER), chat(f"<think>\n{THOUGHT}\n</think>\n\n{ANSWER}"), SAME["a field beside"]]
    )
    assert plain != within == beside


def test_what_led_to_an_answer_is_seen_and_calls_without_an_answer_have_no_score(scorer):
    ids = scorer.encode([chat(ANSWER), [ASKED, CALL, RESULT, *chat(ANSWER)[1:]]])
    text = scorer.tokenizer.decode(ids[1])
    assert ids[0] != ids[1] and text.index("<tool>") < text.index("<response>")
    asked = []

    def source(chats):
        asked.extend(chats)
        return scorer.score(chats)

    completions = [
        [CALL, RESULT],
        [CALL],
        [CALL, RESULT, *chat(ANSWER)[1:]],
        "<think>\ncut off",
        [{"role": "assistant", "content": ""}],
    ]
    rewards = RewardFunction(source)([[ASKED]] * 5, completions)
    assert [reward is None for reward in rewards] == [True, True, False, True, True]
    assert len(asked) == 1 and [message["role"] for message in asked[0]] == ["user", "tool", "assistant"]


def test_the_server_gives_the_scores_of_the_scorer(scorer):
    chats = [chat(ANSWER), *SAME.values(), [ASKED, CALL, RESULT, *chat(ANSWER)[1:]]]
    with Served(scorer) as served:
        asked = RewardFunction(f"{served.url}/score")
        texts = RewardFunction(f"{served.url}/get_reward")
        expected = scorer.score(chats)
        assert asked.score(chats) == pytest.approx(expected, abs=1e-5)
        assert texts.score(chats) == pytest.approx(expected, abs=1e-5)
