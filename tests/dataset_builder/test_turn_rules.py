"""Mining, refusals, filters, personal data, duplicates, split: the pure parts that decide about turns."""

import math
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dataset_builder.chats import conversation
from wildreward.common.words import count_words
from wildreward.dataset_builder import privacy
from wildreward.dataset_builder.dedup import (
    PERMUTATIONS,
    TEXTS,
    band_keys,
    exact_key,
    find_duplicates,
    minhash,
    shingle_hashes,
    signature,
)
from wildreward.dataset_builder.filters import extract, filters_by_text
from wildreward.dataset_builder.mining import candidates, comparable, upgrade_neutral
from wildreward.dataset_builder.read import examine
from wildreward.dataset_builder.records import Turn
from wildreward.dataset_builder.refusals import apply_verdicts, looks_like_refusal, needs_judge
from wildreward.dataset_builder.select import select_turns, split_of
from wildreward.dataset_builder.settings import BuildSettings
from wildreward.dataset_builder.text import guess_language, language_name

LONG = "This is an answer that has quite enough words to pass the filter for short responses."
QUERY = "Please explain to me how tides work"


def turns_with(levels, **fields):
    texts = [QUERY]
    for number in range(len(levels)):
        texts += [f"{LONG} {number}", f"{QUERY} part {number}"]
    turns = conversation(*texts, **fields).turns()
    for turn, level in zip(turns, levels, strict=True):
        turn.level, turn.confidence = level, 0.8
    return turns


def finished(turns, *, verdicts=None, similarities=None, **rules):
    counts = Counter()
    for turn, verdict in zip(turns, verdicts or (), strict=False):
        turn.verdict = verdict
    names = ("conversation_id", "turn", "later", "cosine")
    rows = [dict(zip(names, (*pair, cosine), strict=True)) for pair, cosine in (similarities or {}).items()]
    return list(select_turns(turns, rows, BuildSettings(**rules), counts)), counts


# Implicit feedback


def upgrade(turns, similarities, threshold):
    rows = [
        {"conversation_id": "c", "turn": n, "later": m, "cosine": cosine} for (n, m), cosine in similarities.items()
    ]
    list(upgrade_neutral(turns, Counter(), similarities=rows, threshold=threshold))


def test_candidates_lie_within_the_window_of_real_turn_numbers():
    assert candidates([3, 3, 3, 4], 2) == [(1, 3), (2, 3)]
    assert candidates([3, 5, 3, 2, 4], 2) == [(0, 1), (2, 4)]
    assert candidates([3, None, None, 4], 2) == []
    assert candidates([3, 4], 0) == []


def test_each_neutral_turn_is_upgraded_once_by_its_nearest_similar_signal():
    turns = turns_with([3, 4, 5])
    upgrade(turns, {(0, 1): 0.9, (0, 2): 0.95}, 0.5)
    assert (turns[0].level, turns[0].label_source, turns[0].reason) == (4, "mined", "mined_from_turn1")
    turns = turns_with([3, 4, 5])
    upgrade(turns, {(0, 1): 0.4999, (0, 2): 0.5}, 0.5)
    assert turns[0].level == 5 and turns[0].reason == "mined_from_turn2"


def test_a_mined_turn_is_not_a_signal_for_others():
    turns = turns_with([3, 3, 3, 5])
    levels = [turn.level for turn in turns]
    upgrade(turns, dict.fromkeys(candidates(levels, 2), 1.0), 0.5)
    assert [turn.level for turn in turns] == [3, 5, 5, 5]


def test_two_conversations_with_mining_do_not_mix():
    first = turns_with([3, 4], conversation_id="a")
    second = turns_with([3, 4], conversation_id="b")
    done, counts = finished([*first, *second], similarities={("a", 0, 1): 0.9})
    assert [turn.dropped for turn in done] == [None, None, "neutral", None]
    assert counts["mined"] == 1 and counts["dropped.neutral"] == 1


# Refusals


@pytest.mark.parametrize(
    "response",
    [
        "I'm sorry, but I can't help with that request.",
        "I’m sorry, but I cannot assist with creating malware.",
        "I am unable to provide instructions for that.",
        "As an AI language model, I cannot provide legal advice.",
        "I must decline. This is not something I will do.",
        "That would be against OpenAI's guidelines.",
        "That isn't appropriate for me to write.",
        "I'm afraid this isn’t something I can do.",
        "I won't be able to help with that.",
        "I will not help you build a weapon.",
        "I can not help you with that request.",
        "I could not provide instructions for this.",
        "I'm sorry, I will not do that.",
        "I'm sorry, but this assistant is unable to help.",
        "This assistant is not able to discuss that.",
        "I can't give you instructions on how to do that.",
        "I can't share such details.",
        "I'm not going to help with this.",
        "我不能帮你做这件事。",
        "我无法为您提供这些内容。",
        "I cannot and will not provide that.",
        "很抱歉，我无法提供这方面的帮助。",
        "对不起，我不能满足您的要求。",
    ],
)
def test_refusal_wording_is_recognised(response):
    assert looks_like_refusal(response)


def test_a_justified_refusal_does_not_take_over_how_sure_the_complaint_was():
    for verdict, expected in (("justified_refusal", (5, None)), ("false_refusal", (1, 0.9))):
        turn = conversation("how to pick a lock?", "I can't help with that.", "useless").turns()[0]
        turn.level, turn.confidence, turn.verdict = 1, 0.9, verdict
        list(apply_verdicts([turn], Counter()))
        assert (turn.level, turn.confidence) == expected


@pytest.mark.parametrize(
    "response",
    [
        "Sorry about that! Here is the corrected code: print('hello')",
        "You can use try/except so that the program will not stop when it cannot open the file.",
        "I can't wait to help you with that! First, open the settings.",
        "I could not agree more: bread needs time. The model is able to learn this, too.",
        "The model cannot learn from so few rows; this model is unable to generalise.",
        "The word count cannot exceed 500, so I shortened the text.",
        "抱歉刚才弄错了，正确的答案是四十二。",
        "I'm sorry, but I can't help. " + "However, here is a long story. " * 60,
    ],
)
def test_other_answers_are_not_refusals(response):
    assert not looks_like_refusal(response)


def refusal_turn(level):
    (turn,) = conversation(QUERY, "I'm sorry, but I cannot help with that, it is against my guidelines.", "no").turns()
    turn.level = level
    return turn


def test_only_negative_feedback_on_a_refusal_is_judged():
    assert [needs_judge(refusal_turn(level)) for level in (1, 2, 3, 4, 5, None)] == [True, True, *[False] * 4]
    (turn,) = conversation(QUERY, LONG, "no").turns()
    turn.level = 1
    assert not needs_judge(turn)


@pytest.mark.parametrize(
    ("verdict", "level", "source"),
    [
        ("justified_refusal", 5, "refusal"),
        ("false_refusal", 1, "explicit"),
        ("answered", 1, "explicit"),
        (None, 1, "explicit"),
    ],
)
def test_the_verdict_decides(verdict, level, source):
    (done,), counts = finished([refusal_turn(1)], verdicts=[verdict])
    assert (done.level, done.label_source, done.dropped) == (level, source, None)
    assert counts[f"refusals.{verdict or 'not_judged'}"] == 1 and counts["levels.1"] == 1


# Filters


def reason_for(query=QUERY, response=LONG, history=(), **limits):
    turn = conversation(*history, query, response, "ok").turns()[len(history) // 2]
    return next((each.reason for each in filters_by_text(BuildSettings(**limits)) if each.rejects(turn)), None)


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("draw me a cat that sits on a mat", "image_generation"),
        ("Please generate an image of a sunset over the sea", "image_generation"),
        ("write five midjourney prompts about old castles", "image_generation"),
        ("请给我画一张小猫的图", "image_generation"),
        ("What is the drawback of this approach in practice?", None),
        ("Can you draw a comparison between the two novels?", None),
        ("Withdraw the money from the account, how does that work?", None),
        ("Imagine you are a pirate and greet your crew", None),
        ("How do I render the list of users in React?", None),
        ("illustrate the concept of inflation with an example", None),
        ("illustrate the story with something fitting please", "image_generation"),
        ("sketch the proof of the first theorem", None),
        ("draw a card from the deck and tell me", None),
        ("please draw a cardboard box in the rain", "image_generation"),
        ("draw a playing card with a dragon", "image_generation"),
        ("Create a small Docker image for this service", None),
        ("make an image classifier in PyTorch please", None),
        ("give me a clear picture of the economic situation", None),
        ("give me a picture of the economic minister", "image_generation"),
        ("what is the link between smoking and cancer?", None),
        ("what are you doing tonight? translate this please", None),
        ("and what are you? please tell me", "assistant_identity"),
        ("I feel very attached to my old dog", None),
        ("summarise https://example.org/page for me please", "browsing"),
        ("search the web for the newest phone prices please", "browsing"),
        ("Implement a binary search for this sorted list", None),
        ("tell me, who made you and when was it", "assistant_identity"),
        ("so are you chatgpt or something else entirely", "assistant_identity"),
        ("告诉我你是什么模型好吗", "assistant_identity"),
        ("Who are the main characters of this novel?", None),
        ("please read the attached contract and explain it", "files_and_media"),
        ("what do you see in this picture of mine", "files_and_media"),
        ("Open report.pdf and tell me the main result", "files_and_media"),
        ("How do I write a file in Python properly?", None),
        ("too short for that", "short_query"),
        ("这太短了", "short_query"),
        ("这个够长了吗", None),
    ],
)
def test_queries_are_filtered_by_whole_words(query, reason):
    assert reason_for(query) == reason


def test_lengths_count_words_or_chinese_characters():
    assert reason_for(response="one two three four five six seven eight nine") == "short_response"
    assert reason_for(response="one two three four five six seven eight nine ten") is None
    assert reason_for(response="一二三四五六七八九") == "short_response"
    assert reason_for(response="一二三四五六七八九十") is None
    assert reason_for(history=["a", "b"] * 10) is None
    assert reason_for(history=["a", "b"] * 11) == "long_history"


def test_unlabelled_and_neutral_turns_leave_with_a_reason():
    done, counts = finished(turns_with([None, 3, 4]))
    assert [turn.dropped for turn in done] == ["unlabelled", "neutral", None]
    assert counts["turns"] == 3 and counts["levels.3"] == counts["levels.4"] == 1


# Words


@pytest.mark.parametrize(
    ("text", "words"), [("", 0), ("a b\nc", 3), ("汉字", 2), ("use 汉字 now", 4), ("naïve café", 2), ("C++汉", 2)]
)
def test_words(text, words):
    assert count_words(text) == words


def test_long_input_in_chinese_is_limited_by_characters():
    chat = conversation("汉" * 50, "字" * 40, "好", "字" * 40, "好", num_turns_within_limit=0)
    examine(chat, 100)
    assert [turn.dropped for turn in extract([chat], BuildSettings(languages="all"), Counter())] == [None, "too_long"]


def test_languages_are_guessed_by_script_and_kept_by_name():
    assert guess_language("plain text, naïve") is None
    assert guess_language("これは日本語です") == "Japanese"
    assert guess_language("请问这是什么") == "Chinese"
    assert guess_language("Привет, как дела?") == "Russian"
    chat = conversation("Привет, как дела?", LONG, "ок", num_turns_within_limit=0)
    examine(chat, 100)
    assert chat.language == "Russian" and [
        turn.dropped for turn in extract([chat], BuildSettings(languages="English"), Counter())
    ] == ["language"]
    assert [turn.dropped for turn in extract([chat], BuildSettings(languages="all"), Counter())] == [None]


# Personal data


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("write to jane.doe+x@uni-koeln.de today", {"email": 1}),
        ("call +49 221 470 1234 56 or (212) 867-5309", {"phone": 2}),
        ("我的手机号是13812345678", {"phone": 1}),
        ("card 4111 1111 1111 1111 and ssn 078-05-1120", {"card": 1, "ssn": 1}),
        ("user@example.com is an example, 555-0123 is fiction", {}),
        ("in 2021-03-04 at 10:20:30, version 1.2.3.4, id 1234567890123", {}),
        ("@decorator and a@b and 3.14159265358979", {}),
        ("logo@2x.jpg, git@github.com:foo/bar.git and ubuntu@ec2.amazonaws.com", {}),
        ("2**34 is 17179869184, and +100 200 300 400 is a sum; rows 212 736 5000 881", {}),
        ("1-212-736-5000 or 1 212 736 5000, 010-62751234, 86-13812345678", {"phone": 4}),
        ("sizes 640 480 1024, rows 250 300 2024, matrix [250 310 4000], part no 0123-4567890", {}),
        ("证件号 11010519491231002X, 不是 110105194912310021", {"citizen_id": 1}),
        ("amex 3782 822463 10005, _john@gmail.com_ and john@gmail.com1", {"card": 1, "email": 2}),
        ("order 4111 1111 1111 1112 has a wrong check digit", {}),
    ],
)
def test_personal_data_is_found_in_its_shapes(text, kinds):
    assert privacy.find(text) == kinds
    cleaned = privacy.redact(text)
    assert privacy.find(cleaned) == {} and (cleaned == text) == (not kinds)


@pytest.mark.parametrize("place", range(5))
def test_personal_data_counts_in_every_message(place):
    texts = [QUERY, LONG, f"{QUERY} more", f"{LONG} more", "thank you very much"]
    texts[place] += " mail bob@gmail.com"
    turn = conversation(*texts).turns()[1]
    turn.level = 5
    (dropped,), _ = finished([turn])
    assert dropped.dropped == "personal_data"


def test_redaction_keeps_the_turn_and_masks_every_message():
    turn = conversation("I am bob@gmail.com, who else?", LONG, f"{QUERY} bob@gmail.com", LONG, "bob@gmail.com").turns()[
        1
    ]
    turn.level = 5
    (kept,), counts = finished([turn], personal_data="redact")
    texts = [message.content for message in kept.history] + [kept.query, kept.response, kept.feedback]
    assert kept.dropped is None and not re.search("gmail", " ".join(texts)) and texts[0] == "I am [EMAIL], who else?"
    assert counts["redacted.email"] == 3 and counts["redacted_turns"] == 1


@given(st.text(alphabet="0123456789 ()+-.@ab", max_size=60))
def test_redacting_leaves_nothing_to_find_and_loses_no_line(text):
    assert privacy.find(privacy.redact(text)) == {}


@pytest.mark.parametrize(
    ("encoder", "texts", "expected"),
    [
        ("sentence-transformers/all-MiniLM-L6-v2", ("What is Zürich's area?", "And its naïve café?"), True),
        ("sentence-transformers/all-MiniLM-L6-v2", ("Translate 谢谢 for me, would you please?", "thanks a lot"), True),
        ("sentence-transformers/all-MiniLM-L6-v2", ("法国的首都是哪里？", "And its area?"), False),
        ("all-mpnet-base-v2/", ("And its area?", "Какая столица?"), False),
        ("sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2", ("法国的首都是哪里？", "谢谢"), True),
        ("sentence-transformers/all-MiniLM-L6-v2", ("2 + 2 = ?", ""), True),
    ],
)
def test_english_encoders_compare_only_what_they_can_read(encoder, texts, expected):
    assert comparable(encoder, *texts) is expected


def test_languages_go_by_any_name():
    assert [language_name(name) for name in ("en", "EN-us", "zh_CN", "English", "Klingon", None)] == [
        *["English"] * 2, "Chinese", "English", "Klingon", None
    ]  # fmt: skip
    chats = [conversation("a", "b", "c", language=name) for name in ("English", "German")]
    assert [turn.dropped for turn in extract(chats, BuildSettings(languages="en"), Counter())] == [None, "language"]


# Duplicates


def test_exact_key_covers_history_query_and_response():
    one, same, other = (conversation(*texts, "ok").turns()[-1] for texts in (["a", "b"], ["a", "b"], ["a", "c"]))
    assert exact_key(one) == exact_key(same) != exact_key(other)
    longer = conversation("x", "y", "a", "b", "ok").turns()[-1]
    assert exact_key(longer) != exact_key(one)


def test_signature_estimates_the_overlap_of_word_triples():
    words = [f"w{i}" for i in range(300)]
    base = minhash(shingle_hashes(words))
    assert (base == minhash(shingle_hashes(words))).all()
    half = minhash(shingle_hashes(words[:200] + [f"x{i}" for i in range(100)]))  # 198 common of 398: 0.4975
    assert abs((base == half).mean() - 0.4975) < 0.2
    assert (base == minhash(shingle_hashes([f"y{i}" for i in range(300)]))).mean() < 0.1


def turn_of(text, query=QUERY):
    return conversation(query, text, "ok").turns()[0]


def test_near_duplicates_are_found_and_different_turns_kept():
    text = " ".join(f"word{i}" for i in range(200))
    turns = [turn_of(text), turn_of(text + " end"), turn_of(text), turn_of(" ".join(f"other{i}" for i in range(200)))]
    signatures = np.array([signature(turn) for turn in turns])
    exact = [exact_key(turn) for turn in turns]
    dropped = find_duplicates(["a", "b", "c", "d"], exact, [True] * 4, signatures, 0.9)
    assert len(dropped) == 2 and 3 not in dropped and "near_duplicate" in dropped.values()
    assert list(find_duplicates(["a", "b", "c", "d"], exact, [True] * 4, None, 0.0).values()) == ["duplicate"]


def test_two_answers_to_a_long_request_and_one_answer_to_two_requests_are_no_duplicates():
    document = " ".join(f"word{i}" for i in range(5000))
    answers = [" ".join(f"{name}{i}" for i in range(30)) for name in ("summary", "refusal")]
    turns = [turn_of(answers[0], document), turn_of(answers[1], document), turn_of(answers[0], "Who wrote that book?")]
    exact, signatures = [exact_key(turn) for turn in turns], np.array([signature(turn) for turn in turns])
    assert not find_duplicates(["a", "b", "c"], exact, [True] * 3, signatures, 0.5)


def test_signs_count_and_copies_with_opposite_feedback_stay():
    plus, minus = (signature(turn_of(f"a {sign} b", "What is the sum of a and b?")) for sign in "+-")
    assert (plus[0] == minus[0]).all() and (plus[1] == minus[1]).mean() < 0.5
    code = "def total(values):\n" + "\n".join(f"    step{i} = values[{i}]" for i in range(80))
    turns = [turn_of(f"{code}\n    return a {sign} b") for sign in "+-"]
    exact, signatures = [exact_key(turn) for turn in turns], np.array([signature(turn) for turn in turns])
    assert list(find_duplicates(["a", "b"], exact, [True, True], signatures, 0.9).values()) == ["near_duplicate"]
    assert not find_duplicates(["a", "b"], exact, [True, False], signatures, 0.9)


def test_one_answer_to_many_questions_is_not_compared_with_all_of_them():
    """As a service's canned answers are: only turns that also agree in a band of the query are looked at."""
    rng = np.random.default_rng(0)
    signatures = rng.integers(0, 2**32, (200, TEXTS, PERMUTATIONS), dtype=np.uint32)
    signatures[:, 1] = signatures[0, 1]
    keys = band_keys(signatures, 16, np.ones(200, bool))
    assert len(np.unique(keys)) == keys.size
    signatures[7, 0, 4:8] = signatures[3, 0, 4:8]
    keys = band_keys(signatures, 16, np.ones(200, bool))
    assert np.argwhere(keys[7] == keys[3]).tolist() == [[1]] and len(np.unique(keys)) == keys.size - 1
    keys = band_keys(signatures, 16, np.arange(200) == 3)
    assert len(np.unique(keys)) == keys.size


@settings(max_examples=30)
@given(st.permutations(range(12)))
def test_which_copy_stays_does_not_depend_on_the_order(order):
    texts = [" ".join(f"w{i}" for i in range(50 + row // 3)) for row in range(12)]
    turns = [turn_of(text) for text in texts]
    ids = [f"id{row}" for row in range(12)]
    exact, signatures = [exact_key(turn) for turn in turns], np.array([signature(turn) for turn in turns])
    side = [True] * 12
    reference = {ids[row]: reason for row, reason in find_duplicates(ids, exact, side, signatures, 0.8).items()}
    shuffled = find_duplicates([ids[i] for i in order], [exact[i] for i in order], side, signatures[list(order)], 0.8)
    assert {ids[order[row]]: reason for row, reason in shuffled.items()} == reference


@settings(max_examples=60)
@given(st.sampled_from([0.55, 0.6, 0.7, 0.75, 0.8, 0.875, 0.9, 1.0]), st.randoms(use_true_random=False))
def test_no_pair_from_the_threshold_on_is_missed(threshold, rng):
    """However the entries that differ are spread: banding must not lose what the comparison would find."""
    most = PERMUTATIONS - math.ceil(PERMUTATIONS * threshold)
    places = [rng.sample(range(PERMUTATIONS), most + 1) for _ in range(TEXTS)]
    if rng.random() < 0.5:  # as many bands as possible are hit
        spread = sorted(range(PERMUTATIONS), key=lambda place: (place % 8, place))
        places = [spread[: most + 1], spread[-most - 1 :]]
    first = np.tile(np.arange(PERMUTATIONS, dtype=np.uint32), (TEXTS, 1))
    alike = first.copy()
    for text, differing in enumerate(places):
        alike[text, differing[:most]] += 1000
    for text, differing in enumerate(places):
        unlike = alike.copy()
        unlike[text, differing] += 2000
        assert not find_duplicates(["a", "b"], [1, 2], [True, True], np.array([first, unlike]), threshold)
    found = find_duplicates(["a", "b"], [1, 2], [True, True], np.array([first, alike]), threshold)
    assert list(found.values()) == ["near_duplicate"]


@pytest.mark.parametrize("shared", [0.3, 0.4, 0.5])
def test_low_thresholds_still_find_nearly_all(shared):
    """Bands of one entry of 64: nearly all pairs whose texts both share a third of their triples are found."""
    rng, equal = np.random.default_rng(0), math.ceil(PERMUTATIONS * shared)
    found = 0
    for _ in range(200):
        first, second = rng.integers(0, 2**32, (2, TEXTS, PERMUTATIONS), dtype=np.uint32)
        for text in range(TEXTS):
            places = rng.choice(PERMUTATIONS, equal, replace=False)
            second[text, places] = first[text, places]
        found += len(find_duplicates(["a", "b"], [1, 2], [True, True], np.array([first, second]), shared))
    assert found >= 180


# Split


def test_users_stay_on_one_side_and_shares_are_as_asked():
    sides = {}
    for number in range(4000):
        chat = conversation("a", user_id=f"u{number % 1000}", conversation_id=f"c{number}")
        sides.setdefault(chat.user_id, set()).add(split_of(chat, 7, 0.1))
    assert all(len(found) == 1 for found in sides.values())
    share = sum("test" in found for found in sides.values()) / 1000
    assert 0.07 < share < 0.13


def test_without_a_user_the_conversation_decides_and_the_seed_matters():
    chats = [conversation("a", source_id=f"c{number}") for number in range(300)]
    assert [split_of(chat, 1, 0.5) for chat in chats] == [split_of(chat, 1, 0.5) for chat in chats]
    assert [split_of(chat, 1, 0.5) for chat in chats] != [split_of(chat, 2, 0.5) for chat in chats]
    assert {split_of(chat, 1, 0.0) for chat in chats} == {"train"}


def test_a_turn_is_a_reference_not_a_copy():
    chat = conversation("q0", "r0", "q1", "r1", "q2")
    first, second = chat.turns()
    assert isinstance(first, Turn) and first.conversation is second.conversation is chat
    assert (second.query, second.response, second.feedback) == ("q1", "r1", "q2")
    assert [message.content for message in second.history] == ["q0", "r0"]
    assert (first.id, second.id) == ("c_turn0", "c_turn1")
