"""Generated section, metadata and a person's text: what a second rendering may replace and what it may not."""

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from wildreward.common.cards import Card, joined, merge_card, rendered_again, section
from wildreward.common.errors import UserError


def rendering(auc="0.71", license="apache-2.0", tags=("wildreward",), **more):
    front = yaml.safe_dump({"license": license, "tags": list(tags), **more}, sort_keys=False)
    return f"---\n{front}---\n\n" + section(f"# A model\n\nIt scores chats.\n\n| ROC-AUC | {auc} |") + "\n"


def pushed(text=None):
    """A card as it lies in the folder and on the Hub after a push."""
    card = Card.parse(text or rendering())
    return str(Card(card.metadata, card.before, card.section, card.after, card.digest()))


def pushed_again(hub, local, new=None):
    return str(rendered_again(joined(Card.parse(hub), Card.parse(local)), Card.parse(new or rendering())))


def test_rendering_again_without_edits_gives_exactly_the_new_card():
    assert merge_card(rendering("0.71"), rendering("0.80")) == rendering("0.80") == merge_card("", rendering("0.80"))


def test_text_outside_of_the_section_stays_where_it_was_and_the_section_is_replaced():
    edited = rendering().replace("<!-- wildreward -->", "We like it.\n\n<!-- wildreward -->") + "\nThe end.\n"
    merged = merge_card(edited.replace("It scores", "Edited: it scores"), rendering("0.80"))
    assert merged.index("We like it.") < merged.index("It scores") < merged.index("0.80") < merged.index("The end.")
    assert "0.71" not in merged and "Edited" not in merged


def test_a_persons_fields_and_tags_are_kept_and_those_that_follow_the_files_follow():
    edited = rendering(
        license="mit", tags=("wildreward", "mine"), widget=False, base_model="a/old", datasets=["a/mine"]
    )
    card = Card.parse(merge_card(edited, rendering(license="cc0-1.0", tags=("wildreward", "new"), base_model="a/new")))
    kept = {"license": "mit", "tags": ["wildreward", "mine", "new"], "widget": False, "datasets": ["a/mine"]}
    assert card.metadata == {**kept, "base_model": "a/new"}
    assert Card.parse(merge_card(rendering(license="unknown"), rendering(license="mit"))).metadata["license"] == "mit"


def test_handwritten_card_keeps_its_text_and_its_metadata():
    card = Card.parse(merge_card("---\nlicense: mit\ntags: [mine]\n---\n# My page\n\nHello.\n", rendering()))
    assert card.metadata == {"license": "mit", "tags": ["mine", "wildreward"]}
    assert card.before == "# My page\n\nHello." and "It scores chats" in card.section


@pytest.mark.parametrize(
    "text",
    [
        "<!-- wildreward -->\nno end",
        "text <!-- x -->\n<!-- /wildreward -->",
        section("1") + "\n" + section("2"),
        "<!-- /wildreward -->\nthe wrong way round\n<!-- wildreward -->",
    ],
)
def test_broken_section_is_refused(text):
    with pytest.raises(
        UserError, match="the card's generated section is broken: it needs one line <!-- wildreward -->"
    ):
        Card.parse(text)


def test_broken_yaml_is_refused_with_its_line():
    with pytest.raises(UserError, match="YAML does not parse at line 3"):
        Card.parse("---\nlicense: mit\ntags: [a\n---\n")
    with pytest.raises(UserError, match="is not lines of `key: value`"):
        Card.parse("---\n- a\n---\n")


def test_edits_on_the_hub_and_here_both_survive():
    hub = pushed().replace("license: apache-2.0", "license: mit") + "\nFrom the Hub.\n"
    local = pushed().replace("<!-- wildreward -->", "From here.\n\n<!-- wildreward -->")
    merged = pushed_again(hub, local, rendering("0.80"))
    assert "From the Hub." in merged and "From here." in merged and "0.80" in merged
    assert Card.parse(merged).metadata["license"] == "mit"


def test_what_one_side_deletes_is_not_brought_back_by_the_other():
    both = pushed(rendering() + "\nNote.\n")
    assert "Note." not in pushed_again(both.replace("Note.", ""), both)
    assert "Note." not in pushed_again(both, both.replace("Note.", ""))
    assert "Note." in pushed_again(both, rendering()), "a fresh folder knows nothing of the note and must not drop it"


def test_both_sides_edit_the_same_text():
    both = pushed(rendering() + "\nfirst\nsecond\n")
    merged = pushed_again(both.replace("second", "second, theirs"), both.replace("second", "second, ours"))
    assert Card.parse(merged).after.splitlines() == ["first", "second, theirs", "second, ours"]


def test_the_first_push_takes_the_license_given_here_and_a_page_written_on_the_hub():
    assert Card.parse(pushed_again("", rendering(license="mit"))).metadata["license"] == "mit"
    merged = pushed_again("# Written on the Hub\n", rendering(license="mit"))
    assert "# Written on the Hub" in merged and "It scores chats" in merged


line = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"), max_size=20)
note = st.lists(line, max_size=3).map("\n".join).filter(lambda text: "wildreward" not in text and "---" not in text)


@settings(max_examples=50, deadline=None)
@given(note, note, st.booleans())
def test_any_text_around_the_section_survives_any_number_of_renderings(before, after, was_pushed):
    card = Card.parse(pushed() if was_pushed else rendering())
    written = str(Card(card.metadata, before.strip(), card.section, after.strip(), card.pushed))
    once = merge_card(written, rendering("0.80"))
    again = pushed_again(pushed(once), once, rendering("0.90"))
    for text in (once, again):
        assert (Card.parse(text).before, Card.parse(text).after) == (before.strip(), after.strip())
