"""Takes a model's reasoning out of its answer: what it thought before it spoke is not what the user read.

In a text, reasoning is what stands *before* the answer, in one of the forms that chat models write:

    <think>…</think>answer              paired tags that open the text, also of other names, [THINK], and several in a row
    …</think>answer                     the closing tag alone: the opening one was a part of the prompt
    <think>⏎…                           no closing tag: it was cut off, and there is no answer
    <|channel|>analysis<|message|>…     channels: only what was said on `final` is the answer
    analysis…assistantfinal…            the same, decoded without its special tokens

A text that mentions a tag loses nothing: a pair counts only where it opens the text and not where merely a word such as
"and" stands between the tags; a lone closing tag counts only where nothing looks like a mention: no blank, quotation mark or
backtick beside it, no code around it, no opening tag before it, and an answer behind it.
"""

import re
from typing import NamedTuple

_NAMES = r"think|thinking|thought|seed:think"
_OPENING = re.compile(
    rf"\s*(?:<(?P<name>{_NAMES})>|(?P<upper>\[THINK\])|(?P<moon>◁think▷)|(?P<begin><\|begin_of_thought\|>)"
    r"|(?P<channel><\|channel>thought))",
    re.IGNORECASE,
)
_CLOSING = re.compile(rf"</(?:{_NAMES})>|\[/THINK\]|◁/think▷|<\|end_of_thought\|>", re.IGNORECASE)
_ENDS = {"upper": "[/THINK]", "moon": "◁/think▷", "begin": "<|end_of_thought|>", "channel": "<channel|>"}
_FIRST = frozenset("<[◁a \t\n\r\f\v")  # signs with which a text that opens with reasoning begins, perhaps after blanks
_CONNECTIVE = re.compile(r"[ \t]*(?:and|or|to|through|und|et|y|和|&|,|/)[ \t]*", re.IGNORECASE)
_QUOTES = "`'\"“”‘’«»"
_BEFORE_MENTION = " \t(<[{/" + _QUOTES  # a model's own tag stands right behind its last sign, or on a new line
_SOLUTION = re.compile(r"\s*<\|begin_of_solution\|>(.*?)(?:<\|end_of_solution\|>\s*|$)", re.DOTALL)
_CHANNEL = re.compile(
    r"(?:<\|start\|>[^<]*)?<\|channel\|>(?P<name>[a-z]+)[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>"
    r"(?P<text>.*?)(?=<\|(?:end|return|call|start|channel)\|>|$)",
    re.DOTALL,
)
_BARE_CHANNELS = re.compile(r"\s*analysis(?P<thought>.*?)assistantfinal(?P<answer>.*)", re.DOTALL)


class Split(NamedTuple):
    """A text in two: what was said, and what was thought before it ("" for nothing)."""

    answer: str
    reasoning: str = ""


def split_reasoning(text: str) -> Split:
    """Tell an answer from the reasoning before it; a text without reasoning comes back as it is.

    >>> split_reasoning("<think>7 * 13 = 91</think>\\n\\nNo.")
    Split(answer='No.', reasoning='7 * 13 = 91')
    """
    if not may_hold_reasoning(text):
        return Split(text)
    answer, thoughts = text, []
    while (found := _split_once(answer)).answer != answer:  # reading what was read finds nothing more
        answer, thoughts = found.answer, [*thoughts, found.reasoning]
    return Split(answer, "\n\n".join(filter(None, thoughts)))


def may_hold_reasoning(text: str) -> bool:
    """A short cut: whether a text begins as one with reasoning may, or holds what a closing tag does."""
    if text[:1] in _FIRST or "[/THINK]" in text or "<|end_of_thought|>" in text:
        return True
    return ("</" in text and _CLOSING.search(text) is not None) or (not text.isascii() and "◁/think▷" in text)


def _split_once(text: str) -> Split:
    head = text[:200].lstrip()
    if head.startswith(("<|channel|>", "<|start|>assistant<|channel|>")):
        return _of_channels(text)
    if head.startswith("analysis") and (bare := _BARE_CHANNELS.fullmatch(text)):
        return Split(bare["answer"].strip(), bare["thought"].strip())
    if head[:1] in ("<", "[", "◁") and (opening := _OPENING.match(text)):
        return _of_pairs(text, opening)
    if "</" in text or "[/THINK]" in text or "◁/think▷" in text or "<|end_of_thought|>" in text:
        return _of_closing_tag(text)
    return Split(text)


def with_reasoning(answer: str, reasoning: str) -> str:
    """The form in which kept reasoning stands in a text, wherever it came from."""
    return f"<think>\n{reasoning}\n</think>\n\n{answer}" if reasoning else answer


def _of_pairs(text: str, opening: re.Match[str]) -> Split:
    thoughts: list[str] = []
    rest = text
    while found := opening if rest is text else _OPENING.match(rest):
        kind = found.lastgroup or "name"
        tag = f"</{found['name']}>" if kind == "name" else _ENDS[kind]
        closing = _closing_of(rest, found.end(), tag)
        if closing is None:
            if rest[found.end() : found.end() + 1] not in ("\n", "\r"):
                break  # a text that begins by speaking of the tag
            thoughts.append(rest[found.end() :])
            rest = ""
            break
        inner = rest[found.end() : closing]
        if _CONNECTIVE.fullmatch(inner):
            break
        thoughts.append(inner)
        rest = rest[closing + len(tag) :]
    if not thoughts:
        return Split(text)
    if solution := _SOLUTION.fullmatch(rest):
        rest = solution[1]
    return Split(rest.strip(), "\n\n".join(filter(None, map(str.strip, thoughts))))


def _closing_of(text: str, start: int, tag: str) -> int | None:
    """Where the closing tag is: the first that is not quoted, else the first."""
    places = [match.start() for match in re.finditer(re.escape(tag), text[start:], re.IGNORECASE)]
    if not places:
        return None
    real = (place for place in places if text[start + place - 1 : start + place] not in _QUOTES or not place)
    return start + next(real, places[0])


def _of_closing_tag(text: str) -> Split:
    tag = _CLOSING.search(text)
    if tag is None or _is_mention(text, tag):
        return Split(text)
    answer = text[tag.end() :].strip()
    if not answer:
        return Split(text)
    return Split(answer, text[: tag.start()].strip())


def _is_mention(text: str, tag: re.Match[str]) -> bool:
    """Whether a closing tag without its opening one is spoken of rather than used."""
    before, after = text[: tag.start()], text[tag.end() : tag.end() + 1]
    line = before.rpartition("\n")[2]
    if (before[-1:] and before[-1] in _BEFORE_MENTION and line.strip()) or (after and after in _QUOTES):
        return True
    opened = tag[0].replace("/", "", 1).replace("end_of", "begin_of").lower()
    in_code = before.count("```") % 2 or line.count("`") % 2 or line.startswith(("    ", "\t"))
    return bool(in_code or opened in before.lower())


def _of_channels(text: str) -> Split:
    said: list[str] = []
    thought: list[str] = []
    for part in _CHANNEL.finditer(text):
        (said if part["name"] == "final" else thought).append(part["text"].strip())
    return Split("\n\n".join(said), "\n\n".join(thought)) if said or thought else Split(text)
