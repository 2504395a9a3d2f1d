"""Broken answers: made by hand the same, never the answer itself, the same whatever order, and refusals only where one was wrong."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wildreward.common import contrast
from wildreward.common.contrast import KINDS, Answered, broken_answers
from wildreward.common.contrast_phrases import REFUSALS, UNSURE
from wildreward.common.refusals import looks_like_refusal

ALL = tuple(KINDS)
EACH = len(ALL)
ANSWER = (
    "The Nile flows north. It is the longest river of Africa, and it ends in the Mediterranean Sea near Alexandria."
)


def asked(number, query="Which river?", answer=ANSWER, **more):
    return Answered(f"row {number}", more.pop("owner", f"user {number}"), query, answer, **more)


def broken(answered, kinds=ALL, share=EACH, seed=0, **more):
    found = broken_answers(answered, range(len(answered)), kinds, share, seed, **more)
    return [(answered[place].id, kind, text) for place, kind, text in found]


def of_kind(kind, one, seed=0, **more):
    return [text for _, _, text in broken([one], (kind,), 1, seed, **more)]


def test_cut_ends_with_a_word_in_mid_sentence():
    for seed in range(30):
        (text,) = of_kind("cut", asked(0), seed)
        assert ANSWER.startswith(text) and ANSWER[len(text)] == " " and text[-1] != "."
        assert 4 <= len(text.split()) <= 16  # of 20 words


def test_shuffled_has_the_same_words_on_the_same_lines():
    answer = "one two three\n\n  four five six seven"
    (text,) = of_kind("shuffled", asked(0, answer=answer))
    assert sorted(text.split()) == sorted(answer.split()) and text != answer
    assert [len(line.split()) for line in text.split("\n")] == [3, 0, 4] and "\n\n  " in text


def test_repeated_says_its_last_words_again_up_to_the_length():
    for seed in range(30):
        (text,) = of_kind("repeated", asked(0), seed)
        assert len(text) >= len(ANSWER)
        begun = max(k for k in range(len(ANSWER) + 1) if text.startswith(ANSWER[:k].rstrip()))
        rest = text[begun:].split()
        (period,) = [k for k in range(1, len(rest)) if rest == (rest[:k] * len(rest))[: len(rest)]][:1]
        assert " ".join(rest[:period]) in ANSWER and len(rest) // period >= 2


def test_chinese_is_broken_by_characters():
    answer = "尼罗河是非洲最长的河流,它流向北方,最后流入地中海。"
    one = asked(0, "哪条河?", answer)
    assert sorted(of_kind("shuffled", one)[0]) == sorted(answer)
    assert answer.startswith(of_kind("cut", one)[0]) and " " not in of_kind("repeated", one)[0]
    assert of_kind("refusal", one)[0] in REFUSALS["Chinese"][0]


@pytest.mark.parametrize("answer", ["", "Yes.", "no no no no"])
def test_kinds_that_cannot_be_made_are_passed_over(answer):
    kinds = {kind for _, kind, _ in broken([asked(0, answer=answer)])}
    assert kinds == {"unsure", "refusal", *(["empty"] if answer else [])}


def test_other_answers_are_of_others_of_like_length_and_language_to_another_question():
    near = asked(1, "How do I bake a cake with apples?", "Peel the apples and bake them in dough.")
    others = [
        asked(2, "How do I bake bread with rye?", "Mix rye with sourdough and wait a day."),
        asked(3, "What is the capital of Peru?", "Lima is the capital of Peru, they say."),
        asked(4, "How do I bake a cake with apples?", "The same question: peel, slice, bake."),
        asked(5, "How do I bake a cake with pears?", "Own chat, so it may well fit, too.", owner="user 1"),
        asked(6, "How do I bake a cake with plums?", "Zu lang." * 40),
        asked(7, "How do I bake a cake with plums?", "Backe ihn lange, aber nicht zu heiß.", language="German"),
        asked(8, "How do I bake a cake with plums?", "Peel the apples and bake them in dough."),
    ]
    (found,) = broken_answers([near, *others], [0], ("other_answer",), 1, seed=0)
    assert found == (0, "other_answer", others[0].answer)
    (found,) = broken_answers([near, *others[1:]], [0], ("other_answer",), 1, seed=0)
    assert found.text == others[1].answer
    assert list(broken_answers([near, *others[2:]], [0], ("other_answer",), 1, 0)) == []


def test_refusals_only_where_the_user_was_served_and_in_a_known_language():
    assert {kind for _, kind, _ in broken([asked(0)], ("unsure", "refusal"))} == {"unsure", "refusal"}
    for one in (
        asked(0, may_refuse=True),
        asked(0, answer="I'm sorry, but I can't help you to build a weapon of that sort."),
        asked(0, language="Klingon"),
        asked(0, answer="Нил течёт на север и впадает в море у Александрии."),
    ):
        assert broken([one], ("unsure", "refusal")) == []


def test_phrases_for_evaluation_are_no_training_phrases():
    for phrases in (UNSURE, REFUSALS):
        for training, kept in phrases.values():
            assert not {text.lower() for text in training} & {text.lower() for text in kept}
    said = {
        held: {text for seed in range(200) for text in of_kind("refusal", asked(0), seed, held_out_phrases=held)}
        for held in (False, True)
    }
    assert said == {False: set(REFUSALS["English"][0]), True: set(REFUSALS["English"][1])}


@pytest.mark.parametrize("language", ["English", "Chinese"])
def test_refusals_read_as_such(language):
    training, kept = REFUSALS[language]
    assert [text for text in (*training, *kept) if not looks_like_refusal(text)] == []


def test_share_is_pairs_a_question_and_hard_kinds_come_more_often():
    answered = [asked(n, f"What of {n} and {n * 7}?", ANSWER.replace("Nile", f"River {n}")) for n in range(400)]
    assert len(broken(answered, share=2)) == 800
    assert 160 < len(broken(answered, share=0.5)) < 240
    assert len(broken(answered)) == 400 * EACH
    counts = Counter(kind for _, kind, _ in broken(answered, share=1))
    assert min(counts.values()) > 15 and counts.most_common(1)[0][0] == "other_answer" and counts["other_answer"] > 100
    fewer = set(broken(answered, share=1))
    assert fewer <= set(broken(answered, share=2))


texts = st.text(alphabet="ab .!?\n中文é", max_size=60)


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=8), st.integers(0, 5), st.randoms(use_true_random=False))
def test_broken_answers_differ_from_the_real_one_and_do_not_depend_on_the_order(chats, seed, order):
    answered = [asked(n, query, answer) for n, (query, answer) in enumerate(chats)]
    found = broken(answered, seed=seed)
    real = {one.id: one.answer.strip() for one in answered}
    assert all(text.strip() != real[name] for name, _, text in found)
    assert len({(name, kind) for name, kind, _ in found}) == len(found)
    mixed = list(answered)
    order.shuffle(mixed)
    assert sorted(broken(mixed, seed=seed)) == sorted(found)
    # but for the other chats' answers, each question is on its own
    alone = [
        pair for one in answered for pair in broken([one], [kind for kind in ALL if kind != "other_answer"], seed=seed)
    ]
    assert sorted(alone) == sorted(pair for pair in found if pair[1] != "other_answer")


def test_likeness_is_the_cosine_of_rare_words():
    answered = [asked(0, "red apple"), asked(1, "red pear"), asked(2, "blue sky")]
    pool = contrast._OtherAnswers(answered, 0)
    a, b = contrast.math.log(4 / 3) ** 2, contrast.math.log(4 / 2) ** 2  # in two of three questions, in one
    assert pool.weight == {"red": a, **dict.fromkeys(("apple", "pear", "blue", "sky"), b)}
    assert pool.likeness(0, 1) == pytest.approx(a / (a + b))
    assert pool.likeness(0, 2) == 0 and pool.likeness(0, 0) == 1


def test_the_work_for_each_question_does_not_grow_with_their_number(monkeypatch):
    asked_for = []
    answered = [asked(n, f"{n} of {random.Random(n).random()}", ANSWER + str(n)) for n in range(3000)]
    likeness = contrast._OtherAnswers.likeness
    monkeypatch.setattr(
        contrast._OtherAnswers, "likeness", lambda self, a, b: asked_for.append(a) or likeness(self, a, b)
    )
    broken(answered, ("other_answer",), 1)
    assert set(Counter(asked_for).values()) == {16}
