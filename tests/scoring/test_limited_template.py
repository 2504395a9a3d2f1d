"""A chat template that comes with a model renders in bounded time and memory, and like any other where it does no harm."""

import copy
import json
import shutil

import pytest
from jinja2 import TemplateError
from transformers import AutoTokenizer

from tests.tiny import chat, joining_tokenizer, reward_model, tokenizer_for
from wildreward import RewardScorer
from wildreward.common.errors import UserError
from wildreward.modeling_wildreward.template import install_template, is_reward_template
from wildreward.scoring import limited_template, load_scorer
from wildreward.scoring.limited_template import LimitedTemplate, limit_template

OWN = "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content | trim }}\n{% endfor %}{{ tools | tojson }}"
LOOP = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
MESSAGES = chat("the cat", " sat\n", "history", "answer")
CANNOT = "cannot render a message of the user and an answer"


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    RewardScorer(reward_model(), tokenizer_for("llama")).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(good, tmp_path, monkeypatch):
    monkeypatch.setattr(limited_template, "CPU_SECONDS", 1)
    monkeypatch.setattr(limited_template, "MEMORY_BYTES", 64 << 20)
    return shutil.copytree(good, tmp_path / "model")


def with_template(text):
    tokenizer = tokenizer_for("llama")
    tokenizer.chat_template = text
    return tokenizer


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (LOOP, f"{CANNOT}: it takes more than 1 s of processor time$"),
        ("{% for i in range(10**9) %}{% endfor %}", f"{CANNOT}: OverflowError: Range too big"),
        (
            "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
            f"{CANNOT}: it takes more than 1 s",
        ),
        (
            "{% set ns = namespace(t='x') %}{% for i in range(99) %}{% set ns.t = ns.t ~ ns.t %}{% endfor %}",
            f"{CANNOT}: it takes too much memory$",
        ),
        ("{{ 'a' * 10 ** 10 }}", f"{CANNOT}: it takes too much memory$"),  # computed while it is compiled
        ("{{ 'a' * 2000000 }}", f"{CANNOT}: it makes a text of 2000000 characters of a chat that is far shorter$"),
        ("{% for %}", f"{CANNOT}: Expected an expression"),
        ("{{ raise_exception('no user') }}", f"{CANNOT}: no user$"),
        ("{{ 1 / 0 }}", f"{CANNOT}: ZeroDivisionError: division by zero$"),
        ("", "has no chat template"),
    ],
)
def test_a_template_that_does_harm_or_nothing_is_refused_on_loading(template, message, folder):
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(UserError, match=message) as caught:
        RewardScorer.from_pretrained(folder)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "has no chat template; the model's input text cannot be made"),
        (5, r"chat template of .* is 5; expected a text in Jinja"),
        ([{"name": "other", "template": "a"}], "has no chat template"),
    ],
)
def test_what_is_no_template_is_refused_on_loading(value, message, folder):
    (folder / "chat_template.jinja").unlink()
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": value}))
    with pytest.raises(UserError, match=message):
        RewardScorer.from_pretrained(folder)


def test_a_template_that_waits_for_the_right_chat_harms_nobody_either(folder):
    (folder / "chat_template.jinja").write_text(f"{{% if messages | length > 2 %}}{LOOP}{{% endif %}}" + OWN)
    scorer = load_scorer(str(folder)).scorer
    short = chat("the cat", "sat")
    expected = scorer.score([short])
    with pytest.raises(ValueError, match="conversation 0: the chat template cannot render it: it takes more than 1 s"):
        scorer.score([MESSAGES])
    assert scorer.score([short]) == expected  # a new process renders on


def test_a_classifier_for_evaluation_is_loaded_within_the_same_limits(tmp_path, monkeypatch):
    from tests.evaluation.evaluation_tiny import classifier_folder

    monkeypatch.setattr(limited_template, "CPU_SECONDS", 1)
    folder = classifier_folder(tmp_path)
    (folder / "chat_template.jinja").write_text(LOOP)
    with pytest.raises(UserError, match=f"{CANNOT}: it takes more than 1 s of processor time"):
        load_scorer(str(folder))


def test_texts_and_tokens_are_those_of_transformers():
    plain, limited = with_template(OWN), limit_template(with_template(OWN), "model")
    assert isinstance(limited.apply_chat_template, LimitedTemplate)
    odd = chat("\ud800 é 你好 \x00", "{{ 1 }}")
    tools = [{"type": "function", "function": {"name": "f"}}]
    for options in (
        {"tokenize": False},
        {"tokenize": False, "tools": tools, "add_generation_prompt": True},
        {"return_tensors": "pt", "padding": True},
        {"return_dict": False},
    ):
        for conversation in (MESSAGES, [MESSAGES, chat("a", "b")]) + (([odd],) if "tokenize" in options else ()):
            expected = plain.apply_chat_template(conversation, **options)
            found = limited.apply_chat_template(conversation, **options)
            assert str(found) == str(expected)
    limited.chat_template = "{{ messages[0].content }}"  # a copy, or another template, renders as it says
    assert copy.deepcopy(limited).apply_chat_template(MESSAGES, tokenize=False) == "history"
    limited.chat_template = "{{ raise_exception('no') }}"
    with pytest.raises(TemplateError, match=r"^no$"):
        limited.apply_chat_template(MESSAGES, tokenize=False)


@pytest.mark.parametrize("kind", ["llama", "bert", "joining"])
def test_the_template_of_this_package_is_rendered_here(kind, tmp_path):
    tokenizer = install_template(joining_tokenizer()) if kind == "joining" else tokenizer_for(kind)
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert is_reward_template(again)
    assert not isinstance(limit_template(again, "model").apply_chat_template, LimitedTemplate)
    again.chat_template = LOOP + again.chat_template
    assert not is_reward_template(again)


def test_after_an_interrupt_no_answer_goes_to_another_chat():
    limited = limit_template(with_template(OWN), "model")
    render = limited.apply_chat_template
    expected = render(MESSAGES, tokenize=False)
    child = render._child

    class Interrupted:
        def readline(self):
            raise KeyboardInterrupt

    answers, child.stdout = child.stdout, Interrupted()
    with pytest.raises(KeyboardInterrupt):
        render(chat("another", "chat"), tokenize=False)
    assert render(MESSAGES, tokenize=False) == expected
    child.stdout = answers
    child.communicate()


def test_the_process_ends_with_its_tokenizer():
    tokenizer = limit_template(with_template(OWN), "model")
    child = tokenizer.apply_chat_template._child
    assert child.poll() is None
    tokenizer.apply_chat_template._child = None
    child.stdin.close()  # as the last reference to it does
    assert child.wait(timeout=30) == 0
    child.stdout.close()
