"""Marked blocks, metadata and hand-written text: what a second rendering may replace and what it may not."""

import logging

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from wildreward.cards import block, mark_pushed, merge_card, parse_card, reconcile, render_card, seal, unsealed
from wildreward.errors import UserError


def rendering(auc="0.71", license="apache-2.0", tags=("wildreward",), names=("summary", "results", "limits")):
    texts = {"summary": "# A model\n\nIt scores chats.", "results": f"| ROC-AUC | {auc} |", "limits": "English only."}
    front = yaml.safe_dump({"license": license, "tags": list(tags)}, sort_keys=False)
    return seal(f"---\n{front}---\n\n" + "\n\n".join(block(name, texts.get(name, name)) for name in names))


def test_rendering_again_without_edits_gives_exactly_the_new_card():
    assert merge_card(rendering("0.71"), rendering("0.80")) == rendering("0.80")
    assert merge_card("", rendering()) == rendering()


def test_text_outside_of_blocks_is_kept_where_it_was():
    edited = (
        rendering().replace("<!-- wildreward:results -->", "We like it.\n\n<!-- wildreward:results -->")
        + "\nThe end.\n"
    )
    merged = merge_card(edited, rendering("0.80"))
    assert (
        merged.index("It scores chats") < merged.index("We like it.") < merged.index("0.80") < merged.index("The end.")
    )
    assert "0.71" not in merged


def test_edited_field_added_field_and_added_tag_are_kept_while_other_fields_follow():
    edited = (
        rendering()
        .replace("license: apache-2.0", "license: mit\nwidget: no")
        .replace("\n- wildreward\n", "\n- wildreward\n- mine\n")
    )
    card = parse_card(merge_card(edited, rendering(license="cc0-1.0")))
    assert card.metadata == {"license": "mit", "tags": ["wildreward", "mine"], "widget": False}
    assert parse_card(merge_card(rendering(), rendering(license="cc0-1.0"))).metadata["license"] == "cc0-1.0"


def test_edited_block_stays_and_says_so(caplog):
    edited = rendering().replace("English only.", "English and a little French.")
    with caplog.at_level(logging.WARNING):
        assert "a little French" in merge_card(edited, rendering("0.80"))
    assert not caplog.records
    changed = rendering().replace("| ROC-AUC | 0.71 |", "| AUC | about 0.7 |")
    with caplog.at_level(logging.WARNING):
        assert "about 0.7" in merge_card(changed, rendering("0.80"))
    assert "'results' was edited by hand" in caplog.text


def test_deleted_block_and_deleted_field_stay_deleted():
    card = parse_card(rendering())
    del card.blocks["limits"], card.metadata["tags"]
    card.gaps["results"] = "After the limits."
    merged = merge_card(render_card(card), rendering("0.80"))
    assert "English only" not in merged and "tags" not in parse_card(merged).metadata
    assert "After the limits." in merged


def test_block_new_in_this_version_is_added_in_its_place_and_a_retired_one_goes():
    merged = merge_card(
        rendering(names=("summary", "limits", "old")), rendering(names=("summary", "results", "limits"))
    )
    assert list(parse_card(merged).blocks) == ["summary", "results", "limits"]


def test_handwritten_card_keeps_its_text_and_its_metadata():
    merged = merge_card("---\nlicense: mit\ntags: [mine]\n---\n# My page\n\nHello.\n", rendering())
    card = parse_card(merged)
    assert card.metadata == {"license": "mit", "tags": ["mine", "wildreward"]}
    assert card.gaps[""] == "# My page\n\nHello." and list(card.blocks) == ["summary", "results", "limits"]


def test_configs_and_dataset_info_follow_the_files():
    old = seal("---\nconfigs:\n- config_name: a\n---\n" + block("summary", "x")).replace(
        "config_name: a", "config_name: typo"
    )
    new = seal("---\nconfigs:\n- config_name: b\n---\n" + block("summary", "x"))
    assert parse_card(merge_card(old, new)).metadata["configs"] == [{"config_name": "b"}]


@pytest.mark.parametrize(
    "text",
    [
        "<!-- wildreward:results -->\nno end",
        "text <!-- x -->\n<!-- /wildreward:results -->",
        "<!-- wildreward:a -->\n<!-- wildreward:b -->\n<!-- /wildreward:b -->\n<!-- /wildreward:a -->",
        block("a", "1") + "\n" + block("a", "2"),
    ],
)
def test_broken_block_is_refused_by_name(text):
    with pytest.raises(UserError, match=r"card's block '(results|a)'"):
        parse_card(text)


def test_broken_yaml_is_refused_with_its_line():
    with pytest.raises(UserError, match="YAML does not parse at line 3"):
        parse_card("---\nlicense: mit\ntags: [a\n---\n")
    with pytest.raises(UserError, match="is a list"):
        parse_card("---\n- a\n---\n")


def test_edits_on_the_hub_and_here_both_survive():
    pushed = mark_pushed(rendering())
    hub = pushed.replace("license: apache-2.0", "license: mit") + "\nFrom the Hub.\n"
    local = pushed.replace("<!-- wildreward:results -->", "From here.\n\n<!-- wildreward:results -->")
    merged = merge_card(reconcile(hub, local), rendering("0.80"))
    assert "From the Hub." in merged and "From here." in merged and "0.80" in merged
    assert parse_card(merged).metadata["license"] == "mit"


def test_what_one_side_deletes_is_not_brought_back_by_the_other():
    pushed = mark_pushed(rendering() + "\nNote.\n")
    gone = pushed.replace("Note.", "")
    assert "Note." not in reconcile(gone, pushed)
    assert "Note." not in reconcile(pushed, gone)
    assert "Note." in reconcile(pushed, rendering()), "a fresh folder knows nothing of the note and must not drop it"


def test_both_sides_edit_the_same_text():
    pushed = mark_pushed(rendering() + "\nfirst\nsecond\n")
    joined = reconcile(pushed.replace("second", "second, theirs"), pushed.replace("second", "second, ours"))
    assert parse_card(joined).gaps["limits"].splitlines() == ["first", "second, theirs", "second, ours"]


def test_later_local_edit_of_a_block_edited_before_wins_over_the_pushed_one():
    pushed = mark_pushed(rendering().replace("English only.", "Mostly English."))
    later = pushed.replace("Mostly English.", "Only English, mostly.")
    assert "Only English, mostly." in merge_card(reconcile(pushed, later), rendering())
    assert "Only English, mostly." in merge_card(reconcile(later, pushed), rendering())


def test_unsealed_hides_the_record_only():
    assert "wildreward-seal" not in unsealed(rendering()) and "English only." in unsealed(rendering())


line = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"), max_size=20)
note = st.lists(line, max_size=3).map("\n".join).filter(lambda text: "wildreward" not in text and "---" not in text)


@given(st.dictionaries(st.sampled_from(["", "summary", "results", "limits"]), note), st.booleans())
def test_any_text_between_blocks_survives_any_number_of_renderings(notes, pushed):
    card = parse_card(mark_pushed(rendering()) if pushed else rendering())
    card.gaps = {name: text.strip() for name, text in notes.items()}
    once = merge_card(render_card(card), rendering("0.80"))
    again = merge_card(reconcile(mark_pushed(once), once), rendering("0.90"))
    written = {name: text for name, text in card.gaps.items() if text}
    assert {name: text for name, text in parse_card(once).gaps.items() if text} == written
    assert {name: text for name, text in parse_card(again).gaps.items() if text} == written


def test_note_removed_on_the_hub_stays_out_when_the_local_card_itself_is_the_new_rendering():
    pushed = mark_pushed(rendering() + "\nNote.\n")
    on_the_hub = pushed.replace("Note.", "")
    assert "Note." not in merge_card(reconcile(on_the_hub, pushed), pushed)
