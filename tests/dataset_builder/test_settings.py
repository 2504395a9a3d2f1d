"""What is derived from the one description of the options."""

from dataclasses import fields

import pytest

from wildreward.common.errors import UserError
from wildreward.dataset_builder.settings import LABELERS_OF, NOT_COMPARED, RANGES, BuildSettings

NAMES = {field.name for field in fields(BuildSettings)}


def test_every_option_is_described_and_every_rule_is_about_an_option():
    assert all(field.metadata["help"] for field in fields(BuildSettings))
    assert set(NOT_COMPARED) | set(RANGES) | set(LABELERS_OF) <= NAMES


def test_what_is_compared_on_resuming_are_the_options_that_rows_depend_on():
    compared = BuildSettings(num_workers=3, seed=7, labeler="llm", model="m", labeler_options={"x": 1}).compared()
    assert compared.keys() == NAMES - NOT_COMPARED and compared["seed"] == 7
    assert not compared.keys() & {"num_workers", "output", "model", "labeler_options"}


@pytest.mark.parametrize(
    ("given", "kept"), [("English", ["English"]), (("de", "fr"), ["de", "fr"]), (["all"], []), ([], [])]
)
def test_languages_are_a_list_that_is_empty_for_all(given, kept):
    assert BuildSettings(languages=given).languages == kept


def test_all_numbers_out_of_range_are_told_at_once():
    with pytest.raises(UserError, match=r"--limit is 0; .*\. --max_words is -1; "):
        BuildSettings(limit=0, max_words=-1)
