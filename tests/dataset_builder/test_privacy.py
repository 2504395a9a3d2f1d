"""What a build publishes: no credential ever, no personal data where it is to be dropped or redacted; look-alikes stay."""

import json
import re
from importlib.util import find_spec
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dataset_builder.builds import OFF, build
from tests.dataset_builder.chats import write_chats, write_jsonl
from tests.planted import CREDENTIALS, INNOCENT, PERSONAL
from wildreward.common import credentials
from wildreward.common.disguise import original_positions, undisguised
from wildreward.common.errors import UserError
from wildreward.dataset_builder import privacy
from wildreward.dataset_builder.build import build_dataset
from wildreward.dataset_builder.privacy import Sought

PLANTED = CREDENTIALS + PERSONAL
NAMES = [("email", "jane" + "@" + "gmail.com"), ("github_token", "gh" + "p_" + "Ab3" * 12)]


@pytest.mark.parametrize(("kind", "frame", "secret"), PLANTED)
def test_planted_is_found_and_only_it_is_replaced(kind, frame, secret):
    text = frame.format(secret)
    assert privacy.find(text)[kind]
    cleaned = privacy.redact(text)
    before, after = frame.split("{}")
    assert secret not in cleaned and f"[{kind.upper()}]" in cleaned
    assert cleaned.startswith(before[:3]) and cleaned.endswith(after[-3:])


@pytest.mark.parametrize("before", ["\\n", "\\t", "%3D", "%20", "\\u003d", "\\x3d", "\x1b[31m", "=", " ", ""])
def test_a_key_may_stand_right_behind_an_escape(before):
    key = "gh" + "p_" + "pLIix6MOLeMa61EqJomTEI1JEzO3joOj37H"
    text = f'{{"content": "export GH{before}{key}"}}' if before else key
    assert key not in privacy.redact(text)
    assert f"word{key}" in privacy.redact(f"word{key}")


@pytest.mark.parametrize("text", ["bob[AT]gmail.com", "bob (At) gmail.com"])
def test_an_address_spelt_out_in_any_case_is_found(text):
    assert privacy.find(f"write to {text}")["email"] == 1


def test_names_of_files_are_published_without_what_they_hold(tmp_path):
    key, address = "gh" + "p_" + "pLIix6MOLeMa61EqJomTEI1JEzO3joOj37H", "ivan.petrov5@gmail.com"
    log, labels = write_chats(tmp_path, 30)
    source = log.rename(tmp_path / f"chats-{address}-{key}.jsonl")
    output = tmp_path / f"of-{address}"
    options = {"labeler": "file", "labeler_options": {"labels": str(labels)}, "mining_window": 0}
    assert build_dataset(str(source), output, near_duplicates=0, **options)["kept"]
    for name in ("README.md", "build_report.json"):
        text = (output / name).read_text("utf-8")
        assert key not in text and address not in text


@pytest.mark.parametrize("text", INNOCENT)
def test_look_alikes_stay(text):
    assert not privacy.find(text) and privacy.redact(text) == text


@pytest.mark.parametrize(("kind", "frame", "secret"), CREDENTIALS)
def test_credentials_are_found_without_looking_for_personal_data(kind, frame, secret):
    assert (
        privacy.find(frame.format(secret), Sought(personal_data=False))[kind]
        == credentials.find(frame.format(secret))[kind]
        == 1
    )


def test_personal_data_is_kept_where_that_is_asked_for():
    for _, frame, data in PERSONAL:
        assert privacy.redact(frame.format(data), sought=Sought(personal_data=False)) == frame.format(data)


def test_a_disguise_is_undone_with_its_places():
    text = "a\\_ｂ\u200b１ﬁ٣—\u2011c"
    assert undisguised(text) == "a_b1fi3—-c"
    assert list(original_positions(text)) == [0, 2, 3, 5, 6, 6, 7, 8, 9, 10]
    assert privacy.redact("前\u200b后 ｂｏｂ＠ｇｍａｉｌ．ｃｏｍ\u200b，好") == "前\u200b后 [EMAIL]\u200b，好"


pieces = st.sampled_from([*(frame.format(secret) for _, frame, secret in PLANTED), *INNOCENT])
noise = st.text(alphabet="0123456789 ()+-.:/@[]{}=_\\abSK\n\u200b４", max_size=20)


@settings(max_examples=100, deadline=None)
@given(st.lists(pieces | noise, max_size=5), st.booleans())
def test_redacted_text_holds_no_finding_and_is_left_alone(parts, personal_data):
    text, sought = "".join(parts), Sought(personal_data=personal_data)
    cleaned = privacy.redact(text, sought=sought)
    assert not privacy.find(cleaned, sought)
    assert privacy.redact(cleaned, sought=sought) == cleaned
    assert (cleaned == text) == (not privacy.find(text, sought))


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=200))
def test_text_without_findings_comes_back_as_it_was(text):
    if not privacy.find(text):
        assert privacy.redact(text) == text


@pytest.mark.parametrize(
    "piece", ["sk-", "-eyJ", "-----BEGIN PRIVATE KEY-----", "a@", "+1 ", "06 12 34 56 78 ", "://a:", "2001:"]
)
def test_time_grows_with_the_text_alone(piece):
    privacy.find(piece * 10_000)  # the suite's own limit would be reached many times over


# Whole builds


def log(folder, planted):
    """A chat for each planted text, in another place of it each time; then ids, users and models that are one themselves."""
    rows, labels = [], []
    for number, (_, frame, secret) in enumerate(planted):
        texts = [
            f"Please tell me something new about topic number {number} today",
            f"Here is an answer of quite enough words about topic number {number}, as was asked for",
            f"Thank you, and what about the other side of topic {number}?",
            f"There is another side of topic {number}, too, and it has just as many words as the first one",
            f"That was exactly what I wanted to know about {number}",
        ]
        texts[number % 5] += " " + frame.format(secret)
        rows.append({"id": f"chat{number}", "user": f"user{number}", "model": "m", "messages": messages(texts)})
        labels += [{"id": f"chat{number}_turn{turn}", "level": 5} for turn in (0, 1)]
    for number, (_, name) in enumerate(NAMES * 2):
        texts = [
            f"Please say something about {name[:2]} and subject {number}",
            "It is one of those things. " * 3,
            "Thanks!",
        ]
        rows.append({"id": f"{name}/{number}", "user": name, "model": f"tuned:{name}", "messages": messages(texts)})
        labels.append({"id": f"{name}/{number}_turn0", "level": 4})
    folder.mkdir()
    return write_jsonl(folder / "chats.jsonl", rows), write_jsonl(folder / "labels.jsonl", labels)


def messages(texts):
    return [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(texts)]


def published(folder):
    """All that a reader of the folder sees, `work/` aside: rows as JSON, every other file as it is."""
    texts = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.relative_to(folder).parts[0] != "work":
            if path.suffix == ".parquet":
                texts += [json.dumps(row, ensure_ascii=False) for row in pq.read_table(path).to_pylist()]
            texts.append(path.read_bytes().decode("utf-8", "replace"))
    return "\n".join(texts)


def written(secret):
    """As it stands in JSON."""
    return json.dumps(secret, ensure_ascii=False)[1:-1]


@pytest.mark.parametrize("action", ["drop", "redact", "keep"])
def test_nothing_planted_is_published(tmp_path, action):
    report = build(
        log(tmp_path / "log", PLANTED), tmp_path / "out", personal_data=action, near_duplicates=0, languages=(), **OFF
    )
    text = published(tmp_path / "out")
    hidden = PLANTED if action != "keep" else CREDENTIALS
    assert not [kind for kind, _, secret in hidden if written(secret) in text]
    assert NAMES[1][1] not in text and (NAMES[0][1] in text) == (action == "keep")
    if action == "drop":
        assert report["dropped"]["personal_data"] >= len(PLANTED)
    else:
        assert "personal_data" not in report["dropped"] and report["kept"] > 1.8 * len(PLANTED)
        assert report["redacted"]["github_token"] >= 5 and ("email" in report["redacted"]) == (action == "redact")
    if action == "keep":
        assert not [data for _, _, data in PERSONAL if written(data) not in text]


def test_secrets_are_kept_by_their_own_flag_alone(tmp_path):
    secrets = [each for each in CREDENTIALS[:20] if "@" not in each[1]]  # that one reads as an address
    planted = secrets + PERSONAL[:5]
    options = {"near_duplicates": 0, "languages": (), "keep_secrets": True, **OFF}
    report = build(log(tmp_path / "log", planted), tmp_path / "out", personal_data="redact", **options)
    text = published(tmp_path / "out")
    assert not [secret for _, _, secret in secrets if written(secret) not in text]
    assert not [data for _, _, data in PERSONAL[:5] if written(data) in text]
    assert "openai_key" not in report["redacted"] and report["redacted"]["email"] >= 4
    assert "**Published on request: keys and passwords.**" in (tmp_path / "out" / "README.md").read_text()


def test_names_need_presidio_and_a_policy(tmp_path):
    if not find_spec("presidio_analyzer"):
        with pytest.raises(
            UserError, match=r"--names-model needs Presidio; install it with: pip install 'wildreward\[names\]'"
        ):
            build(log(tmp_path / "log", PERSONAL[:2]), tmp_path / "out", names_model="en_core_web_sm", **OFF)
    with pytest.raises(UserError, match="--names-model has no effect with --personal-data keep"):
        build(("x", "y"), tmp_path / "out", names_model="en_core_web_sm", personal_data="keep")


def test_a_found_name_is_masked_and_its_placeholder_left(monkeypatch):
    class Analyzer:
        def analyze(self, text, language, entities):
            places = [(m.start(), m.end()) for m in re.finditer("Jane Doe|PERSON", text)]
            return [SimpleNamespace(start=start, end=end) for start, end in places]

    monkeypatch.setattr("wildreward.dataset_builder.people.analyzer", lambda model: Analyzer())
    long = "word " * 12_000 + "Jane Doe wrote to jane@gmail.com"
    assert privacy.redact(long, sought=Sought(names="en_x")).endswith("word [PERSON] wrote to [EMAIL]")
    assert privacy.find(long, Sought(names="en_x")) == {"person": 1, "email": 1} and privacy.find(long) == {"email": 1}


def test_names_that_hold_an_address_are_renamed_alike_in_all_rows(tmp_path):
    build(log(tmp_path / "log", PLANTED[:20]), tmp_path / "out", near_duplicates=0, **OFF)
    rows = [row for path in (tmp_path / "out" / "data").glob("*") for row in pq.read_table(path).to_pylist()]
    renamed = [row for row in rows if row["model"] != "m"]
    assert len(renamed) == 4 and len({row["model"] for row in renamed}) == 2
    assert all(row["id"] == f"{row['conversation_id']}_turn0" and len(row["model"]) == 16 for row in renamed)
    assert all(row["id"].startswith("chat") for row in rows if row["model"] == "m")
    levels = pq.read_table(tmp_path / "out" / "work" / "levels.parquet")["id"].to_pylist()
    assert f"{NAMES[0][1]}/0_turn0" in levels, "work/ keeps the names, so that it can serve as labels"
