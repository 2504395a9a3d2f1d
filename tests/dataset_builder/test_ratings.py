"""Users' ratings: where they are found, what they are worth, and what becomes of them in a build."""

import json
import logging

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.dataset_builder.builds import OFF
from tests.dataset_builder.chats import chat, write_jsonl
from tests.planted import CREDENTIALS
from wildreward.common.errors import UserError
from wildreward.dataset_builder.build import build_dataset
from wildreward.dataset_builder.labelers.rating import RatingMap, levels_of, read_map
from wildreward.dataset_builder.sources.marks import Marks, rating_text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("thumbs_up", "thumbsup"),
        ("thumbsUp", "thumbsup"),
        ("👍", "👍"),
        (True, "true"),
        (4, "4"),
        (4.0, "4"),
        ("4.0", "4"),
        ("3.5", "3.5"),
        (-1, "-1"),
        ("-1", "-1"),
        ("★★★★☆", "4/5"),
        ("4 stars", "4/5"),
        ("8/10", "8/10"),
        ({"rating": "thumbsDown", "tag": "not_helpful", "text": "a long story"}, "thumbsdown"),
        ({"value": 1, "comment": "my key"}, "1"),
        ({"thumbs_up": True}, "thumbsup"),
        ([{"name": "user-feedback", "value": 0}, {"name": "user-feedback", "value": 1}], "1"),
        ("I liked that you asked me for my name, Jane", "text"),
        ("", None),
        (None, None),
        (float("nan"), None),
        ({"comment": "only that"}, None),
    ],
)
def test_a_rating_is_kept_as_a_short_text(value, text):
    assert rating_text(value) == text


@pytest.mark.parametrize(
    ("ratings", "levels"),
    [
        ("up down", [5, 1]),
        ("like dislike good bad positive negative", [5, 1, 5, 1, 5, 1]),
        ("👍 👎", [5, 1]),
        ("true false", [5, 1]),
        ("1 -1", [5, 1]),
        ("1 0 -1", [5, 3, 1]),
        ("1 0", [5, 1]),
        ("1 2 3 4 5", [1, 2, 3, 4, 5]),
        ("0 5 3.5 2.5", [None, 5, 4, 2]),
        ("1 3 5 7 10", [1, 2, 3, 4, 5]),
        ("2 4 6 8 9", [1, 2, 3, 4, 5]),
        ("4/5 8/10 2/5", [4, 4, 2]),
        ("regenerated edited", [2, 2]),
        ("-1 up 1", [1, 5, 5]),
    ],
)
def test_ratings_have_the_levels_of_the_table(ratings, levels):
    found, doubt = levels_of(dict.fromkeys(ratings.split(), 3))
    assert ([found[rating] for rating in ratings.split()], doubt) == (levels, "")


@pytest.mark.parametrize(
    "counts", [{"1": 9}, {"0": 9}, {"1": 2, "2": 3, "3": 1}, {"0.83": 1, "0.2": 1}, {"7": 3}, {"0": 95, "1": 2}]
)
def test_numbers_that_may_be_of_several_scales_have_no_level(counts):
    found, doubt = levels_of({**counts, "up": 1})
    assert found == {"up": 5} and doubt


def test_the_users_map_goes_before_the_table():
    given = read_map("good=4, thumbs_up=5,0..0.4=1,0.4..0.8=none,0.8..1=5")
    counts = dict.fromkeys(["good", "bad", "thumbsup", "0.1", "0.5", "0.9", "3"], 1)
    assert levels_of(counts, given) == ({"good": 4, "bad": 1, "thumbsup": 5, "0.1": 1, "0.5": None, "0.9": 5}, "")
    assert given.written()["0..0.4"] == 1 and not RatingMap({"good": 4}).has_numbers


def test_a_map_may_be_a_file_and_what_is_none_is_refused(tmp_path):
    path = tmp_path / "map.json"
    path.write_text(json.dumps({"meh": 3, "wow": 5, "skip": None}))
    assert read_map(str(path)).levels == {"meh": 3, "wow": 5, "skip": None}
    for bad in ("up=6", "up=good", str(tmp_path / "none.json"), "up"):
        with pytest.raises(UserError, match="--rating-map"):
            read_map(bad)


ANSWERS = [{"role": "user"}, {"role": "assistant"}, {"role": "user"}, {"role": "assistant"}]


@pytest.mark.parametrize(
    ("key", "row", "ratings"),
    [
        (None, {}, None),
        (None, {"rating": 4}, [None, None, None, "4"]),
        (None, {1: {"feedback": {"type": "up"}}}, [None, "up", None, None]),
        (None, {1: {"regenerated": True}, "rating": 4}, [None, "regenerated", None, None]),
        (None, {2: {"rating": 1}}, [None, None, "1", None]),
        ("marks", {"marks": [1, None]}, [None, "1", None, None]),
        ("meta.stars", {3: {"meta": {"stars": 5}}, "rating": 1}, [None, None, None, "5"]),
        ("meta.stars", {"meta": {"stars": 5}}, [None, None, None, "5"]),
        ("none", {"rating": 4}, None),
    ],
)
def test_a_rating_is_the_answers_else_the_rows(key, row, ratings):
    origins = [[message | row.get(place, {})] for place, message in enumerate(ANSWERS)]
    top = {name: value for name, value in row.items() if isinstance(name, str)}
    assert Marks(key).ratings(top, [message["role"] for message in ANSWERS], origins) == ratings


def test_a_flag_counts_from_its_first_message_else_for_the_row():
    origins = [[{"toxic": flag}] for flag in (False, False, True, False)]
    marks = Marks(flags=("toxic", "redacted", "moderation.flagged"))
    row = {"toxic": True, "redacted": True, "moderation": [{"flagged": False}, {"flagged": True}]}
    assert marks.flagged(row, origins) == {"toxic": 2, "redacted": 0, "moderation.flagged": 0}
    assert marks.flagged({}, [[{}], [{}]]) == {}


# Whole builds


def rated_log(folder, rate, count=24, turns=3):
    """A log whose chats end with an answer; `rate` says what is added to the last answer of a chat, and to its row."""
    rows, labels = [], []
    for number in range(count):
        messages, levels = chat(number, turns)
        messages.append(
            {"role": "assistant", "content": f"That is the last answer of chat {number}, with enough words in it."}
        )
        beside, row = rate(number)
        messages[-1] |= beside
        rows.append({"id": f"chat{number}", "user": f"user{number % 12}", "messages": messages, **row})
        labels += [{"id": f"chat{number}_turn{turn}", "level": level} for turn, level in enumerate(levels)]
    folder.mkdir(exist_ok=True)
    return write_jsonl(folder / "chats.jsonl", rows), write_jsonl(folder / "labels.jsonl", labels)


def run(log, output, **options):
    options = {"labeler": "file", "labels": str(log[1])} | options
    if options["labeler"] != "file":
        options.pop("labels")
    options = {"near_duplicates": 0, "test_fraction": 0.3, "min_query_words": 1} | options | OFF
    return build_dataset(str(log[0]), output, **options)


def rows_in(folder):
    return [row for path in (folder / "data").glob("*") for row in pq.read_table(path).to_pylist()]


def test_a_rated_last_answer_is_a_turn_without_a_follow_up(tmp_path):
    log = rated_log(tmp_path / "log", lambda n: ({"rating": 5 - n % 5} if n < 10 else {}, {}))
    report = run(log, tmp_path / "out")
    rated = {row["id"]: row for row in rows_in(tmp_path / "out") if row["label_source"] == "rating"}
    assert report["ratings"]["turns"] == {"1": 2, "2": 2, "3": 2, "4": 2, "5": 2}
    assert report["turns"] == 24 * 3 + 10 and report["turns_without_follow_up"] == 10
    assert {id_: row["level"] for id_, row in rated.items()} == {
        f"chat{n}_turn3": 5 - n % 5 for n in range(10) if n % 5 != 2
    }
    assert all(row["user_feedback"] == {"role": "user", "content": ""} for row in rated.values())
    assert all(len(row["history"]) == 6 for row in rated.values())
    plain = [row for row in rows_in(tmp_path / "out") if row["label_source"] != "rating"]
    run(rated_log(tmp_path / "plain", lambda n: ({}, {})), tmp_path / "plain_out")
    assert sorted(plain, key=lambda row: row["id"]) == sorted(
        rows_in(tmp_path / "plain_out"), key=lambda row: row["id"]
    )
    levels = {row["id"]: row for row in pq.read_table(tmp_path / "out" / "work" / "levels.parquet").to_pylist()}
    assert levels["chat0_turn3"]["labeler"] == "rating" and levels["chat0_turn3"]["level"] == 5


def middle_log(folder, rate, count=30):
    """Ratings on the first answer of each chat, which has a follow-up."""
    chats, labels = rated_log(folder, lambda n: ({}, {}), count)
    rows = [json.loads(line) for line in chats.read_text().splitlines()]
    for number, row in enumerate(rows):
        row["messages"][1] |= rate(number)
    return write_jsonl(chats, rows), labels


def test_a_rating_goes_before_the_follow_up_and_their_agreement_is_shown(tmp_path):
    log = middle_log(tmp_path / "log", lambda n: {"thumbs": ("up", "down", None)[n % 3]})
    report = run(log, tmp_path / "out")
    by_id = {row["id"]: row for row in map(json.loads, log[1].read_text().splitlines())}
    expected = {}
    for n in range(30):
        if n % 3 < 2:
            said = by_id[f"chat{n}_turn0"]["level"]
            words = (
                ("positive", "negative")[n % 3],
                "neutral" if said == 3 else "positive" if said > 3 else "negative",
            )
            expected.setdefault(words[0], {}).setdefault(words[1], 0)
            expected[words[0]][words[1]] += 1
    assert report["ratings"]["agreement"] == expected and report["ratings"]["turns"] == {"1": 10, "5": 10}
    card = (tmp_path / "out" / "README.md").read_text()
    assert "1: down; 5: up" in card and "| rated negative |" in card and "they agree on" in card
    assert report["label_sources"]["rating"] == {"1": 10, "5": 10} and "| rating | 10 | 0 | 0 | 10 |" in card
    assert sum(report["levels"].values()) == report["labelled"] == 90


def test_ratings_are_read_from_other_columns_of_parquet(tmp_path):
    chats, _ = rated_log(tmp_path / "log", lambda n: ({}, {"meta": {"stars": 1 + n % 5}, "toxic": n == 4}), 10)
    rows = [json.loads(line) for line in chats.read_text().splitlines()]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "log.parquet")
    options = {"labeler": "rating", "rating_key": "meta.stars", "drop_flagged": "toxic"}
    report = run((tmp_path / "log.parquet", None), tmp_path / "out", **options)
    assert report["ratings"]["turns"] == {"1": 2, "2": 2, "3": 2, "4": 2, "5": 1} and report["kept"] == 7


def test_with_the_labeler_rating_only_ratings_are_labels(tmp_path):
    log = rated_log(tmp_path / "log", lambda n: ({}, {"stars": str(1 + n % 5)} if n < 10 else {}))
    report = run(log, tmp_path / "out", labeler="rating")
    assert {row["label_source"] for row in rows_in(tmp_path / "out")} == {"rating"}
    assert report["unlabelled"] == {"not_rated": 72} and report["kept"] == 8
    assert "Levels are users' own ratings." in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(
    ("rate", "options", "message"),
    [
        (
            lambda n: {"rating": 1},
            {"labeler": "rating"},
            "the ratings are 1, which may be of several scales.*--rating-map '1=LEVEL",
        ),
        (lambda n: {}, {"labeler": "rating"}, "no answer has a rating under rating, .*--rating-key"),
        (
            lambda n: {"mark": "wow"},
            {"rating_key": "mark"},
            "nobody knows what the ratings wow are worth.*--rating-map 'wow=",
        ),
        (
            lambda n: {"mark": f"my pass {n}"},
            {"rating_key": "mark"},
            "nobody knows what the ratings texts, … are worth",
        ),
    ],
)
def test_ratings_that_were_asked_for_and_cannot_be_read_are_an_error(tmp_path, rate, options, message):
    log = rated_log(tmp_path / "log", lambda n: (rate(n), {}), 6)
    with pytest.raises(UserError, match=message):
        run(log, tmp_path / "out", **options)
    report = run(log, tmp_path / "out", **{**options, "labeler": "file", "labels": str(log[1]), "rating_key": "none"})
    assert report["ratings"]["found"] == 0 and report["turns_without_follow_up"] == 0


def test_ratings_that_were_only_found_are_left_with_a_word(tmp_path, caplog):
    log = rated_log(tmp_path / "log", lambda n: ({"score": 0.8 + n / 1000}, {}), 6)
    with caplog.at_level(logging.WARNING):
        report = run(log, tmp_path / "out")
    assert "which may be of several scales" in caplog.text and "they are not used" in caplog.text
    assert report["ratings"]["not_used"] == {"unknown_rating": 6} and report["turns_without_follow_up"] == 0
    places = pq.read_table(tmp_path / "out" / "work" / "unused_ratings.parquet").to_pylist()
    assert {(row["source_id"], row["message"], row["reason"]) for row in places} == {
        (f"chat{n}", 7, "unknown_rating") for n in range(6)
    }


def test_a_rating_neither_gives_nor_takes_praise(tmp_path):
    from tests.dataset_builder.chats import conversation
    from wildreward.dataset_builder.mining import candidate_pairs

    turns = conversation("a", "b", "c", "d", "e", ratings=[None, 3, None, None, None]).turns()
    for turn, level in zip(turns, (3, 5), strict=True):
        turn.level = level
    assert candidate_pairs(turns, 2, []) == []
    turns[0].conversation.ratings = None
    assert len(candidate_pairs(turns, 2, [])) == 1


def test_flagged_turns_are_left_out_from_the_flag_on(tmp_path):
    chats, labels = rated_log(tmp_path / "log", lambda n: ({}, {"redacted": n == 0}), 6)
    rows = [json.loads(line) for line in chats.read_text().splitlines()]
    rows[1]["messages"][4]["toxic"] = True
    report = run((write_jsonl(chats, rows), labels), tmp_path / "out", drop_flagged=["toxic", "redacted"])
    # the flag stands on the third thing the user says: that is what follows on turn 1
    assert report["dropped"]["flagged_toxic"] == 2 and report["dropped"]["flagged_redacted"] == 3


def test_no_secret_of_a_comment_is_published(tmp_path):
    secrets = [(frame.format(secret), secret) for _, frame, secret in CREDENTIALS]

    def rate(number):
        text, secret = secrets[number]
        forms = (
            {"rating": {"rating": number % 2, "comment": text}},
            {"feedback": text},
            {"feedback": {"value": 1, "text": text}},
        )
        return forms[number % 3] | {"thumbs": ["up", "down"][number % 2], "comment": text, "reason": secret}, {
            "comment": text
        }

    log = rated_log(tmp_path / "log", rate, len(secrets))
    report = run(log, tmp_path / "out", personal_data="keep", rating_map="0=1,1=5")
    assert report["ratings"]["used"] > len(secrets) / 2
    written = [
        path
        for path in (tmp_path / "out").rglob("*")
        if path.is_file() and "work" not in path.relative_to(tmp_path / "out").parts
    ]
    texts = [path.read_text("utf-8") for path in written if path.suffix in (".md", ".json")]
    texts += [
        json.dumps(pq.read_table(path).to_pylist(), ensure_ascii=False) for path in written if path.suffix == ".parquet"
    ]
    assert not [secret for _, secret in secrets if any(json.dumps(secret)[1:-1] in text for text in texts)]
    shards = [
        pq.read_table(path).to_pylist() for path in (tmp_path / "out" / "work" / "conversations").glob("*.parquet")
    ]
    assert not [secret for _, secret in secrets if json.dumps(secret)[1:-1] in json.dumps(shards)], "nor kept in work/"


def test_a_low_rating_of_a_refusal_is_judged(tmp_path):
    chats, labels = rated_log(tmp_path / "log", lambda n: ({"rating": "down"}, {}), 6, turns=1)
    rows = [json.loads(line) for line in chats.read_text().splitlines()]
    for row in rows:
        row["messages"][-1]["content"] = "I'm sorry, but I can't help with that request, as it could hurt somebody."
    verdicts = [{"id": f"chat{n}_turn1", "level": None, "refusal": "justified_refusal"} for n in range(3)]
    more = [json.loads(line) for line in labels.read_text().splitlines()]
    report = run((write_jsonl(chats, rows), write_jsonl(labels, more + verdicts)), tmp_path / "out")
    by_id = {row["id"]: (row["level"], row["label_source"]) for row in rows_in(tmp_path / "out")}
    assert by_id["chat0_turn1"] == (5, "refusal") and by_id["chat4_turn1"] == (1, "rating")
    assert report["refusals"]["justified_refusal"] == 3


def test_of_copies_the_rated_one_stays(tmp_path):
    chats, labels = rated_log(tmp_path / "log", lambda n: ({}, {"rating": 5} if n % 2 else {}), 12)
    rows = [json.loads(line) for line in chats.read_text().splitlines()]
    for place in range(0, 12, 2):
        rows[place]["messages"] = [{k: m[k] for k in ("role", "content")} for m in rows[place + 1]["messages"]]
        rows[place]["id"] = f"copy{place}"
    report = run((write_jsonl(chats, rows), labels), tmp_path / "out")
    assert report["conversations_dropped"] == {"duplicate_conversation": 6} and report["ratings"]["used"] == 6
