"""The app as somebody uses it, in headless Chromium: nothing but this machine is asked, and nothing complains."""

import importlib.util
import logging
from urllib.parse import urlsplit

import pytest

from tests.demo.browser import CHROMIUM, opened, serving
from tests.demo.runs import HOSTILE
from wildreward.demo.settings import DemoConfig
from wildreward.demo.try_tab import MOST_CHARACTERS

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium"),
    pytest.mark.skipif(importlib.util.find_spec("playwright") is None, reason="no playwright"),
]


@pytest.fixture(scope="module")
def address(run):
    with serving(DemoConfig(run=str(run))) as address:
        yield address


@pytest.fixture
def seen(address, caplog):
    """A page; afterwards: no address elsewhere was asked, the console and the log are without errors."""
    with opened(address) as seen:
        yield seen
        assert {urlsplit(one).hostname for one in seen.asked if not one.startswith("data:")} == {"127.0.0.1"}
        assert seen.complaints == []
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def go_to(page, tab):
    page.get_by_role("tab", name=tab).click()


def ask(page, prompt, *answers):
    page.get_by_label("Conversation, up to").fill(prompt)
    for letter, answer in zip("AB", answers, strict=False):
        page.get_by_label(f"Answer {letter}").fill(answer)
    page.get_by_role("button", name="Score").click()


def test_every_tab_shows_what_it_is_for(seen):
    page = seen.page
    page.get_by_text("P(A better than B)", exact=True).wait_for()  # the example is scored already
    assert page.locator(".wr-card .wr-score").count() == 2
    go_to(page, "Feedback")
    page.get_by_text("1 of 48 rows").wait_for()
    answer, said = page.locator("#wr-row .wr-beside > div").all()
    assert said.bounding_box()["x"] > answer.bounding_box()["x"]  # beside it
    go_to(page, "Quality")
    page.get_by_text("ROC-AUC", exact=True).first.wait_for()
    loaded = page.locator(".wr-figures img").evaluate_all("all => all.map(one => one.naturalWidth)")
    assert len(loaded) == 3 and min(loaded) > 100
    go_to(page, "Policy")
    page.get_by_text("1 to 3 of 3 prompts").wait_for()


def test_filters_and_buttons_of_the_dataset(seen):
    page = seen.page
    go_to(page, "Feedback")
    page.get_by_role("button", name="Next").click()
    page.get_by_text("2 of 48 rows").wait_for()
    page.get_by_label("Search").fill("zebra 7")
    page.keyboard.press("Enter")
    page.get_by_text("1 of 1 rows").wait_for()
    assert "question 7" in page.locator("#wr-row").inner_text()
    page.get_by_label("Search").fill("")
    page.get_by_role("combobox", name="Level", exact=True).click()
    page.get_by_role("option", name="rejection").click()
    page.get_by_text("1 of 12 rows").wait_for()
    page.get_by_role("button", name="Random praise").click()
    page.get_by_role("alert").wait_for()
    page.get_by_role("button", name="Random complaint").click()
    page.locator("#wr-row .wr-feedback.wr-l1").wait_for()


def test_wrong_input_and_a_long_text_are_told_in_the_page(seen):
    page, scores = seen.page, seen.page.locator("#wr-scores")
    ask(page, "please", "", "")
    scores.get_by_role("alert").wait_for()
    assert "no answer to score" in scores.inner_text()
    ask(page, "please", "x" * (MOST_CHARACTERS + 1), "")
    page.get_by_text(f"expected at most {MOST_CHARACTERS:,}").wait_for()
    ask(page, "please", "the cat sat " * 1000, "the cat")
    page.get_by_text("Cut off: the middle of the answer").wait_for()
    assert scores.get_by_role("alert").count() == 0


def test_what_chats_say_runs_nothing_and_fetches_nothing(seen):
    page = seen.page
    ask(page, HOSTILE, HOSTILE, "the cat")
    page.locator("#wr-scores .wr-read").filter(has_text="alert(1)").first.wait_for(
        state="attached"
    )  # no more those before
    page.locator(".wr-more summary").first.click()
    assert "<script>alert(1)" in page.locator("#wr-scores .wr-read").first.inner_text().replace("< script", "<script")
    go_to(page, "Feedback")
    page.get_by_label("Search").fill("elsewhere")
    page.keyboard.press("Enter")
    page.get_by_text("1 of 1 rows").wait_for()
    assert page.locator("#wr-row .wr-feedback .wr-text").inner_text() == HOSTILE  # letter by letter
    go_to(page, "Policy")
    page.locator("#wr-completions").get_by_text("elsewhere").first.wait_for()
    assert page.locator("#wr-row img, #wr-scores img, #wr-completions img, #wr-completions a").count() == 0


def test_the_keyboard_alone_is_enough(seen):
    page = seen.page
    page.get_by_label("Conversation, up to").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('label, .block').innerText").startswith("Answer A")
    page.keyboard.press("Control+A")
    page.keyboard.type("")
    page.keyboard.press("Delete")
    page.keyboard.press("Shift+Enter")
    page.wait_for_function("document.querySelectorAll('#wr-scores .wr-card').length == 1")
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.innerText") == "Score":
            break
    page.keyboard.press("Enter")
    page.get_by_role("tab", name="Try it").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_text("of 48 rows").wait_for()


def test_a_narrow_window_needs_no_scrolling_sideways(address):
    with opened(address, width=390, height=800) as seen:
        for tab in ("Try it", "Feedback", "Quality", "Policy"):
            go_to(seen.page, tab)
            seen.page.wait_for_timeout(300)
            assert seen.page.evaluate("document.documentElement.scrollWidth") <= 390, tab
        assert seen.complaints == []


def test_fifty_clicks_without_an_error(seen, capfd):
    page = seen.page
    for k in range(10):
        go_to(page, "Try it")
        ask(page, f"please {k}", "the cat", f"a mat {k}")
        go_to(page, "Feedback")
        for name in ("Next", "Random complaint", "Random praise", "Previous"):
            page.get_by_role("button", name=name).and_(page.locator(":visible")).click()
    go_to(page, "Try it")
    page.get_by_text("P(A better than B)", exact=True).wait_for()
    out, err = capfd.readouterr()
    assert "Traceback" not in out + err and "please" not in out + err
