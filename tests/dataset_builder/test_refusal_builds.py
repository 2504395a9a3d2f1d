"""Refusals that users disliked, through whole builds: judged or not, counted, and never relabelled behind one's back."""

import pyarrow.parquet as pq
import pytest

from tests.dataset_builder.chats import write_jsonl
from tests.llm_stub import Reply, StubServer, chat
from wildreward.common.errors import UserError
from wildreward.dataset_builder.build import build_dataset
from wildreward.dataset_builder.command import main
from wildreward.dataset_builder.settings import BuildSettings

REFUSAL = "I'm sorry, but I can't help you with that request of yours, it goes against my guidelines."
ANSWER = "Here is a plain answer with more than ten words in it, about the request number {}."
COMPLAINT = "No, that is wrong and useless, you did not answer my question at all"
VERDICTS = ("justified_refusal", "false_refusal", "answered", None)


@pytest.fixture
def log(tmp_path):
    """Eight chats with one follow-up each, all complaints; the answers of the first four are refusals."""
    chats = []
    for number in range(8):
        response = f"{REFUSAL} ({number})" if number < 4 else ANSWER.format(number)
        texts = (f"Please do the special thing number {number} for me", response, f"{COMPLAINT} ({number})")
        roles = ("user", "assistant", "user")
        messages = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]
        chats.append({"id": f"chat{number}", "messages": messages})
    return write_jsonl(tmp_path / "chats.jsonl", chats)


def labels(tmp_path, verdicts):
    rows = [{"id": f"chat{number}_turn0", "level": 2, "refusal": verdict} for number, verdict in enumerate(verdicts)]
    return write_jsonl(tmp_path / "labels.jsonl", rows)


def build(log, output, labeler, **options):
    plain = {"mining_window": 0, "near_duplicates": 0}
    return build_dataset(str(log), output, labeler=labeler, labeler_options=options, **plain)


def kept(output):
    rows = [row for path in (output / "data").glob("*.parquet") for row in pq.read_table(path).to_pylist()]
    return {row["id"]: (row["level"], row["label_source"]) for row in rows}


def test_without_a_judge_refusals_keep_their_level_and_the_card_counts_them(log, tmp_path):
    report = build(log, tmp_path / "out", "classifier")
    assert report["refusals"] == {"not_judged": 4} and report["refusals_not_judged"] == {"no_judge": 4}
    rows = kept(tmp_path / "out")
    assert len(rows) == 8 and {level for level, _ in rows.values()} <= {1, 2}
    assert {source for _, source in rows.values()} == {"explicit"}
    text = (tmp_path / "out" / "README.md").read_text()
    assert "4 answers with negative feedback look like refusals" in text
    assert "**4 were not judged** (no_judge 4) and keep their negative level" in text


def test_verdicts_of_a_labels_file_decide_and_what_has_none_is_counted(log, tmp_path):
    report = build(log, tmp_path / "out", "file", labels=str(labels(tmp_path, [*VERDICTS, *[None] * 4])))
    assert report["refusals"] == {"answered": 1, "false_refusal": 1, "justified_refusal": 1, "not_judged": 1}
    assert report["refusals_not_judged"] == {"not_in_labels_file": 1}
    rows = kept(tmp_path / "out")
    assert rows["chat0_turn0"] == (5, "refusal")
    assert {rows[f"chat{number}_turn0"] for number in range(1, 8)} == {(2, "explicit")}
    text = (tmp_path / "out" / "README.md").read_text()
    assert "answered 1, false_refusal 1, justified_refusal 1; only `justified_refusal` changes a level" in text
    assert "**1 were not judged** (not_in_labels_file 1)" in text


def test_verdicts_of_a_labels_file_count_whatever_a_refusal_is_worded_like(log, tmp_path):
    verdicts = [*[None] * 3, *["justified_refusal"] * 3, None, None]
    report = build(log, tmp_path / "out", "file", labels=str(labels(tmp_path, verdicts)))
    assert report["refusals"] == {"justified_refusal": 3, "not_judged": 3}
    rows = kept(tmp_path / "out")
    sources = [rows[f"chat{number}_turn0"][1] for number in range(8)]
    assert sources == ["refusal" if verdict else "explicit" for verdict in verdicts]


def test_the_levels_of_one_build_serve_another_with_their_verdicts(log, tmp_path):
    first = build(log, tmp_path / "first", "file", labels=str(labels(tmp_path, [*VERDICTS, *[None] * 4])))
    again = build(log, tmp_path / "again", "file", labels=str(tmp_path / "first" / "work" / "levels.parquet"))
    assert kept(tmp_path / "again") == kept(tmp_path / "first")
    for name in ("refusals", "refusals_not_judged", "levels", "dropped"):
        assert again[name] == first[name]


def test_a_judge_that_cannot_tell_leaves_the_level(log, tmp_path):
    def behaviour(request):
        judging = '{"verdict": V}' in request.body["messages"][0]["content"]
        return Reply(chat("I would rather not say" if judging else '{"level": 1}'))

    with StubServer(behaviour) as stub:
        report = build(log, tmp_path / "out", "llm", model="stub", base_url=stub.url)
    assert report["refusals"] == {"not_judged": 4} and report["refusals_not_judged"] == {"unparsable_answer": 4}
    assert set(kept(tmp_path / "out").values()) == {(1, "explicit")}


def test_a_build_that_keeps_nothing_says_why_and_fails(log, tmp_path):
    with StubServer(lambda request: Reply(chat("Sure! Let me help."))) as stub:
        config = BuildSettings(
            source=str(log), output=str(tmp_path / "out"), labeler="llm", model="m", base_url=stub.url, num_workers=1
        )
        for _ in range(2):  # the second run asks nothing and says the same
            with pytest.raises(UserError) as caught:
                main(config)
            assert str(caught.value) == (
                "none of the 8 turns was kept (unlabelled: unparsable_answer 8), so there is no dataset; "
                f"{tmp_path}/out/work/levels.parquet says what became of each turn"
            )
            assert len(stub.requests) == 8 * 3
    assert not (tmp_path / "out" / "README.md").exists() and not (tmp_path / "out" / "data").exists()
    reasons = pq.read_table(tmp_path / "out" / "work" / "levels.parquet")["reason"].to_pylist()
    assert reasons == ["unparsable_answer"] * 8
