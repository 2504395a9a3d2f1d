"""A policy's chat text, with its special tokens, read back into messages.

    <|im_start|>user            [{"role": "user", "content": "2 + 2?"},
    2 + 2?<|im_end|>         →   {"role": "assistant", "content": "4"}]
    <|im_start|>assistant
    4<|im_end|>

A text does not tell a token from letters that spell it, so a policy could write further turns into its answer. Where the
prompt is known as well, all that follows it is the answer, whatever it spells. Where it is not, marks are what they would be
to the policy; a turn with one in its middle is refused.
"""

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from wildreward.common.chat import ROLES

STARTS = ("<s>", "<bos>", "<|begin_of_text|>", "<|startoftext|>")
ENDS = ("</s>", "<eos>", "<|endoftext|>", "<|end_of_text|>", "<pad>", "<|pad|>", "[PAD]", "<|finetune_right_pad_id|>")
SPECIAL_TOKEN = re.compile(r"<[|｜][^\s<>]{1,40}[|｜]?>")


@dataclass(frozen=True)
class ChatFormat:
    """How a family of models writes turns.

    Attributes:
        name: for messages.
        opening: what begins a turn; its group says who speaks.
        closings: marks that end a turn.
        others: further marks that no turn's text holds.
        unclosed: speakers whose turn ends where the next one begins.
        order: the speakers of a text, a space behind each; None: any.
    """

    name: str
    opening: re.Pattern[str]
    closings: tuple[str, ...]
    others: tuple[str, ...]
    unclosed: tuple[str, ...] = ()
    order: re.Pattern[str] | None = None


FORMATS = (
    ChatFormat("ChatML", re.compile(r"<\|im_start\|>([a-z_]{1,20})(?:\n|\Z)"), ("<|im_end|>",), ("<|im_start|>",)),
    ChatFormat(
        "Llama 3",
        re.compile(r"<\|start_header_id\|>([a-z_]{1,20})<\|end_header_id\|>"),
        ("<|eot_id|>", "<|eom_id|>"),
        ("<|start_header_id|>", "<|end_header_id|>"),
    ),
    ChatFormat(
        "Gemma", re.compile(r"<start_of_turn>([a-z_]{1,20})(?:\n|\Z)"), ("<end_of_turn>",), ("<start_of_turn>",)
    ),
    ChatFormat("Gemma 4", re.compile(r"<\|turn>([a-z_]{1,20})(?:\n|\Z)"), ("<turn|>",), ("<|turn>",)),
    ChatFormat(
        "Mistral",
        re.compile(r"\[(SYSTEM_PROMPT|/?INST|/?TOOL_RESULTS)\]"),
        ("</s>", "[/SYSTEM_PROMPT]"),
        ("[AVAILABLE_TOOLS]", "<<SYS>>"),
        unclosed=("INST", "TOOL_RESULTS"),
        order=re.compile(r"(?:(?:SYSTEM_PROMPT|INST /INST|TOOL_RESULTS /TOOL_RESULTS) )*+"),
    ),
)
SPEAKERS = ROLES | {
    "ipython": "tool",
    "SYSTEM_PROMPT": "system",
    "INST": "user",
    "/INST": "assistant",
    "TOOL_RESULTS": "tool",
    "/TOOL_RESULTS": "assistant",
}


def read_policy_text(text: str, prompt: str | None = None) -> list[dict[str, Any]]:
    """The messages of a text that a policy's chat template and the policy itself wrote; the last one is the answer.

    Tokens that begin a text, and end tokens and padding behind it, do not count. A system message that a template adds
    is read as one. Gemma's and the older Mistral templates write it into the user's first message, where it stays.

    Args:
        text: prompt and answer, with special tokens.
        prompt: the text that the policy was given, for where it ends; it need not be the same letter by letter.

    Raises:
        ValueError: the text is in no format of `FORMATS`, or not whole; saying what was seen, not what somebody said.
    """
    start = _start_of(text)
    form = next((form for form in FORMATS if form.opening.match(text, start)), None)
    if form is None:
        seen = SPECIAL_TOKEN.match(text, start)
        raise ValueError(
            f"the text is not a reward model's input, and begins with {seen[0] if seen else 'no special token'}; expected a "
            f"policy's chat text in the format of {', '.join(form.name for form in FORMATS)}, or send `messages`"
        )
    openings = list(form.opening.finditer(text, start))
    if prompt is not None:
        openings = openings[: _turns_of_prompt(prompt, form, [opening[1] for opening in openings])]
    names = [opening[1] for opening in openings]
    if form.order and not form.order.fullmatch("".join(f"{name} " for name in names)):
        raise ValueError(f"its marks are not in the order of a {form.name} text")
    contents = []
    for number, (opening, following) in enumerate(pairwise(openings), start=1):
        body, closed = text[opening.end() : following.start()], opening[1] not in form.unclosed
        contents.append(_without_closing(body, form, number) if closed else body)
    answer = text[openings[-1].end() :]
    contents.append(answer[: _end_of(answer, ENDS + form.closings)])
    for number, content in enumerate(contents if prompt is None else contents[:-1], start=1):
        if mark := next((mark for mark in form.closings + form.others if mark in content), None):
            raise ValueError(f"turn {number} of the {form.name} text holds {mark} where no such mark can be")
    turns = zip(names, contents, strict=True)
    return [{"role": SPEAKERS.get(name, name), "content": content.strip()} for name, content in turns]


def _turns_of_prompt(prompt: str, form: ChatFormat, names: list[str]) -> int:
    """How many turns a prompt opens, its answer's included. What is compared with the text is who speaks: tokenizers may
    change spaces and letters, but no marks."""
    given = form.opening.findall(prompt, _start_of(prompt))
    if not given or names[: len(given)] != given:
        raise ValueError("it does not begin with its prompt; send prompts as the policy reads them, or none")
    if SPEAKERS.get(given[-1]) != "assistant":
        raise ValueError("its prompt does not end where an answer of the assistant begins")
    return len(given)


def _without_closing(body: str, form: ChatFormat, number: int) -> str:
    end = _end_of(body, tuple(mark for mark in ENDS if mark not in form.closings))
    mark = next((mark for mark in form.closings if body.endswith(mark, 0, end)), None)
    if mark is None:
        raise ValueError(f"turn {number} of the {form.name} text does not end with {' or '.join(form.closings)}")
    return body[: end - len(mark)]


def _start_of(text: str) -> int:
    """Where a text begins behind spaces, padding and tokens that begin every text."""
    at, marks = 0, STARTS + ENDS
    while at < len(text):
        if text.startswith(marks, at):
            at += next(len(mark) for mark in marks if text.startswith(mark, at))
        elif text[at].isspace():
            at += 1
        else:
            break
    return at


def _end_of(text: str, marks: tuple[str, ...]) -> int:
    """Where a text ends before spaces and marks."""
    end = len(text)
    while end:
        if text.endswith(marks, 0, end):
            end -= next(len(mark) for mark in marks if text.endswith(mark, 0, end))
        elif text[end - 1].isspace():
            end -= 1
        else:
            break
    return end
