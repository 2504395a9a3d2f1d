"""Addresses and answers are shown without keys."""

import pytest

from wildreward.common.secrecy import masked, public_address

KEY = "sk-1234567890abcdefgh"


@pytest.mark.parametrize(
    "url",
    [
        "https://host:8000/v1",
        f"https://me:{KEY}@host:8000",
        f"https://host:8000/{KEY}/v1",
        f"https://host:8000?key={KEY}",
    ],
)
def test_an_address_is_its_host(url):
    assert public_address(url) == "https://host:8000"


@pytest.mark.parametrize("said", [f"bad key {KEY}!", f'bad key "{KEY}"', "bad key sk-12345*****efgh"])
def test_a_key_is_masked_whole_and_in_part(said):
    shown = masked(said, None, "", KEY)
    assert shown.startswith("bad key") and "***" in shown
    assert "12345" not in shown and "efgh" not in shown


def test_a_key_that_begins_another_leaves_nothing_of_it():
    assert masked("bad key abcdefgh1234", "abcdefgh", "abcdefgh1234") == "bad key ***"
