"""From chat messages to the reward model's token ids: one template for training, scoring, TRL and serving.

The text the model reads is rendered by the tokenizer's own `chat_template` (`reward_template.jinja`), which
[`install_template`] puts there, so any program that renders chat messages with that tokenizer gives the same ids:

    Rate how well the last response serves the user.
    <history>            only when something comes before the query
    <user>
    …
    <query>
    …
    <response>
    …

Message text cannot open a section or smuggle in a special token: the template itself splits such strings. Where the
tokenizer reads a split mark like a whole one (BERT's drop spaces, case and accents), message text loses every `<`.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

Message = dict[str, Any]

RESPONSE = "<response>"
SECTIONS = ("<history>", "<query>", RESPONSE, "<user>", "<assistant>", "<system>", "<tool>")
OPENINGS = "<≮＜﹤"  # what Unicode normalization can turn into `<`
INSTEAD = "«"
# Queries and responses beside which a tokenizer might write the mark between them differently.
PROBES = [("a", "b"), ("What is 2 + 2?", "4."), ("?\n\n```", "```py"), ("(«", "<b>"), ("x", "")]
PROBES += [("a.", response) for response in ("// x", "//", "/usr", "/* x */", "-", "# x", ">", "你好", "1")]
GAP = " … "
NEAR = 8  # tokens by which the sizes of single messages may miss the size of their rendering
QUERY_SHARE = 0.25  # of the tokens of an input: what a long query keeps beside a response that is too long itself
_FRAME = re.compile(r"\{%- set start = '([^'\\\n]*)' -%\}\n\{%- set end = '([^'\\\n]*)' -%\}\n")
CHARACTERS_PER_TOKEN = 16  # more than any tokenizer packs into one on average: text beyond this is cut unread


@dataclass(frozen=True, slots=True)
class EncodedInput:
    """Token ids of one conversation, and what had to go to fit.

    Attributes:
        input_ids: at most `max_length` ids, special tokens included.
        dropped_messages: how many history messages were left out, oldest first, system messages last.
        cut_query: the middle of the query was left out.
        cut_response: the middle of the response was left out; its label may no longer fit what remains.
    """

    input_ids: list[int]
    dropped_messages: int = 0
    cut_query: bool = False
    cut_response: bool = False


def install_template(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Set the reward model's chat template on `tokenizer` (in place) and make sure it can pad; returns it.

    The special tokens that the tokenizer puts around a plain text are written into the template, because TRL tokenizes
    rendered text without adding any. Without such an end token the text ends with `eos_token`.

    Raises:
        ValueError: the tokenizer has neither a padding token nor an end-of-sequence token.
    """
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise ValueError("the tokenizer has no pad_token and no eos_token; set one before training a reward model")
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.chat_template = _reward_template(tokenizer, frame_of(tokenizer))
    return tokenizer


def is_reward_template(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a tokenizer's chat template is the one that [`install_template`] puts there, letter by letter; an exported
    tokenizer adds no special tokens itself any more, so what stands around the input may be any text."""
    template = tokenizer.chat_template
    if not isinstance(template, str) or not template.endswith(_source()):
        return False
    frame = _FRAME.match(template)
    return template == _reward_template(tokenizer, frame.groups() if frame else frame_of(tokenizer))


def _source() -> str:
    return resources.files(__package__).joinpath("reward_template.jinja").read_text(encoding="utf-8")


def _reward_template(tokenizer: PreTrainedTokenizerBase, frame: Sequence[str]) -> str:
    start, end = frame
    values = {"start": start, "end": end, "reserved": _reserved(tokenizer)}
    return "".join(f"{{%- set {name} = {_jinja(value)} -%}}\n" for name, value in values.items()) + _source()


def response_mark(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Token ids of the mark `<response>` in what the reward model reads; message text never contains them.

    Args:
        tokenizer: one that [`install_template`] has prepared.

    Raises:
        ValueError: another chat template; a tokenizer that writes the mark differently from one text to the next, as
            some do that join the end of a line to the signs which begin the next.
    """
    found: list[list[int]] = []
    for query, response in PROBES:
        messages = [{"role": "user", "content": query}, {"role": "assistant", "content": response}]
        text = tokenizer.apply_chat_template(messages, tokenize=False)
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        if RESPONSE not in text:
            raise ValueError("the tokenizer's chat template is not the reward model's; call install_template first")
        start = text.rindex(RESPONSE)
        end = start + len(RESPONSE)
        spans = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        found.append([token for token, (first, last) in spans if first < end and last > start])
        if found[-1] != found[0]:
            pair = " or ".join(str(tokenizer.convert_ids_to_tokens(mark)) for mark in (found[0], found[-1]))
            raise ValueError(f"its tokenizer has no fixed tokens for {RESPONSE}, but {pair}; use another pooling")
    return found[0]


def encode(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], max_length: int) -> EncodedInput:
    """Token ids of one conversation that ends with the response to judge; see [`encode_batch`]."""
    return encode_batch(tokenizer, [messages], max_length)[0]


def encode_batch(
    tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Sequence[Message]], max_length: int
) -> list[EncodedInput]:
    """Token ids of conversations whose last message is the response to judge.

    What does not fit in `max_length` tokens goes in this order: the oldest history, the middle of the query down to a
    quarter of `max_length`, and only then the middle of the response, which the result tells: an answer cannot be judged
    without its question.

    Args:
        tokenizer: one that [`install_template`] has prepared.
        conversations: lists of `{"role", "content"}`; content is a string or a list of parts (`{"type": …, "text": …}`).
        max_length: longest result in tokens.

    Raises:
        ValueError: a conversation the template cannot render, naming its position and the fault.
    """
    bounded = [_bound(conversation, max_length, index) for index, conversation in enumerate(conversations)]
    if not bounded:
        return []
    rendered = _rendered(tokenizer, [messages for messages, _ in bounded])
    batch_ids = tokenizer(rendered, add_special_tokens=False, verbose=False)["input_ids"]
    results = []
    for (messages, lost), ids in zip(bounded, batch_ids, strict=True):
        result = EncodedInput(ids) if len(ids) <= max_length else _fit(tokenizer, messages, len(ids), max_length)
        results.append(
            replace(
                result,
                dropped_messages=result.dropped_messages + lost.dropped_messages,
                cut_query=result.cut_query or lost.cut_query,
                cut_response=result.cut_response or lost.cut_response,
            )
        )
    return results


def _rendered(tokenizer: PreTrainedTokenizerBase, conversations: list[list[Message]], first: int = 0) -> list[str]:
    try:
        return tokenizer.apply_chat_template(conversations, tokenize=False)
    except TemplateError as error:
        if len(conversations) == 1:
            raise ValueError(f"conversation {first}: the chat template cannot render it: {error}") from error
        return [_rendered(tokenizer, [messages], index)[0] for index, messages in enumerate(conversations)]


def _fit(tokenizer: PreTrainedTokenizerBase, messages: list[Message], length: int, max_length: int) -> EncodedInput:
    """Shorten one conversation of `length` tokens step by step until it fits."""
    order = _leaving_order(messages)
    sizes = _sizes(tokenizer, [f"<{messages[index]['role']}>\n{_text(messages[index])}\n" for index in order])
    rendered: dict[int, list[int]] = {}

    def length_without(count: int) -> int:
        if count not in rendered:
            rendered[count] = _ids(tokenizer, _without(messages, order[:count]))
        return len(rendered[count])

    # the messages' own sizes tell nearly how many must go; where they may err, rendering decides
    gone, left = 0, length
    while gone < len(order) and left > max_length:
        left -= sizes[gone]
        gone += 1
    trusted = abs(length_without(gone) - left) <= NEAR
    while gone > 1 and not (trusted and left + sizes[gone - 1] > max_length + NEAR):
        if length_without(gone - 1) > max_length:
            break
        gone -= 1
        left += sizes[gone]
    while gone < len(order) and length_without(gone) > max_length:
        gone += 1
    kept, ids = _without(messages, order[:gone]), rendered[gone]
    result = EncodedInput(ids, dropped_messages=gone)
    query, response = _query_index(kept), len(kept) - 1
    for index, least in ((query, int(QUERY_SHARE * max_length)), (response, 0), (query, 0)):
        if len(ids) <= max_length or index is None:
            continue
        shortened = _cut_middle(tokenizer, kept, index, len(ids) - max_length, max_length, least)
        if shortened != kept:
            kept, ids = shortened, _ids(tokenizer, shortened)
            result = replace(result, input_ids=ids, **{"cut_query" if index == query else "cut_response": True})
    if len(ids) > max_length:  # tool results between query and response, or a max_length below the frame itself
        result = replace(result, input_ids=ids[:1] + ids[1 - max_length :], cut_response=True)
    return result


def _leaving_order(messages: Sequence[Message]) -> list[int]:
    """Positions of the history in the order in which it goes: oldest first, system messages last."""
    query = _query_index(messages)
    history = range(len(messages) - 1 if query is None else query)
    return sorted(history, key=lambda index: messages[index]["role"] == "system")


def without_history(messages: Sequence[Message], count: int) -> list[Message]:
    """What [`encode_batch`] leaves of a conversation when it drops so many messages."""
    return _without(messages, _leaving_order(messages)[:count])


def _without(messages: Sequence[Message], positions: Sequence[int]) -> list[Message]:
    gone = set(positions)
    return [message for index, message in enumerate(messages) if index not in gone]


def _cut_middle(
    tokenizer: PreTrainedTokenizerBase, messages: list[Message], index: int, excess: int, max_length: int, least: int
) -> list[Message]:
    """Leave out the middle of one message's text until the whole fits, or only `least` tokens of it are left."""
    text = _text(messages[index])
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)["offset_mapping"]
    if len(offsets) <= least:
        return messages

    def with_tokens(count: int) -> list[Message]:
        head, tail = (count + 1) // 2, count // 2
        start = offsets[head - 1][1] if head else 0
        end = offsets[len(offsets) - tail][0] if tail else len(text)
        shortened = messages[index] | {"content": text[:start] + GAP + text[end:]}
        return [*messages[:index], shortened, *messages[index + 1 :]]

    count = max(len(offsets) - excess, least)
    while count > least and (excess := len(_ids(tokenizer, with_tokens(count))) - max_length) > 0:
        count = max(count - excess, least)
    return with_tokens(count)


def _sizes(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[int]:
    """Number of tokens of each text."""
    return [len(ids) for ids in tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]] if texts else []


def _ids(tokenizer: PreTrainedTokenizerBase, messages: list[Message]) -> list[int]:
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    return tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]


def _bound(messages: Sequence[Message], max_length: int, index: int) -> tuple[list[Message], EncodedInput]:
    """Check a conversation, make its text valid Unicode, and leave out what cannot fit anyway before tokenizing.

    Returns:
        The bounded messages, and what was lost (its `input_ids` are empty).
    """
    if not messages or not all(isinstance(message, dict) and message.get("role") for message in messages):
        raise ValueError(f"conversation {index}: expected a non-empty list of {{'role', 'content'}} messages")
    if messages[-1]["role"] != "assistant":
        raise ValueError(
            f"conversation {index} ends with a message of role {messages[-1]['role']!r}; "
            "expected 'assistant', the response to judge"
        )
    for number, message in enumerate(messages, 1):
        content = message.get("content")
        # an assistant that only calls tools, in the history, is the one that may say nothing
        if content is None and (number == len(messages) or message["role"] in ("user", "system")):
            raise ValueError(f"conversation {index}: its message {number} ({message['role']}) has no content")
        parts = content if isinstance(content, list) else [{}] if isinstance(content, str | None) else [None]
        if not all(isinstance(part, dict) for part in parts):
            raise ValueError(f"conversation {index}: content is neither a string nor a list of {{'type', …}} parts")
    room = longest = CHARACTERS_PER_TOKEN * max_length
    texts = [_text(message).strip() for message in messages]  # as the template does
    hopeless = []
    for position in reversed(_leaving_order(messages)):
        room -= max(len(texts[position]), CHARACTERS_PER_TOKEN)  # its mark takes a token, if not three
        if room < 0:
            hopeless.append(position)
    query, last, bounded = _query_index(messages), len(messages) - 1, []
    lost = EncodedInput([], dropped_messages=len(hopeless))
    for position, (message, text) in enumerate(zip(messages, texts, strict=True)):
        if len(text) > longest:
            text = text[: longest // 2] + GAP + text[-longest // 2 :]
            lost = replace(
                lost, cut_query=lost.cut_query or position == query, cut_response=lost.cut_response or position == last
            )
        bounded.append({**message, "content": text.encode("utf-8", "replace").decode("utf-8")})
    return _without(bounded, hopeless), lost


def _query_index(messages: Sequence[Message]) -> int | None:
    """Position of the last user message before the response."""
    return next((i for i in range(len(messages) - 2, -1, -1) if messages[i]["role"] == "user"), None)


def _text(message: Message) -> str:
    """Text of a message as the template reads it: text in parts is one text, what else is among them is named in brackets."""
    content = message.get("content")
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    text, said_before = "", True
    for number, part in enumerate(content):
        said = isinstance(part.get("text"), str)
        text += "" if not number or (said and said_before) else "\n"
        text += part["text"] if said else f"[{part.get('type')}]"
        said_before = said
    return text


def frame_of(tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    """What stands before and after every input: the special tokens that the tokenizer's own post-processing puts there;
    without one at the end, `eos_token`."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    full = tokenizer("a")["input_ids"]
    at = next(i for i in range(len(full)) if full[i : i + len(bare)] == bare)
    return tokenizer.decode(full[:at]), tokenizer.decode(full[at + len(bare) :]) or tokenizer.eos_token or ""


def _reserved(tokenizer: PreTrainedTokenizerBase) -> list[list[str]]:
    """[string that message text must not contain, what stands in its place]: section marks and special tokens.

    Families of `<|…|>` tokens (Llama 3 has 256) are all covered by their opening `<|`.
    """
    special = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    special |= {token for token in tokenizer.all_special_tokens if len(token) > 1}
    marks = sorted({"<|" if token.startswith("<|") else token for token in special if len(token) > 1})
    variants = ["< response>", "<RESPONSE>", "＜response＞"]
    exact, *others = tokenizer([RESPONSE, *variants], add_special_tokens=False)["input_ids"]
    if exact in others:
        return [*([mark, INSTEAD] for mark in OPENINGS), *split_marks(mark for mark in marks if mark[0] != "<")]
    return split_marks([*SECTIONS, *marks])


def split_marks(marks: Iterable[str]) -> list[list[str]]:
    """Each mark with the text that stands in its place: the same with a space after its first character."""
    return [[mark, f"{mark[0]} {mark[1:]}"] for mark in marks]


def _jinja(value: str | list) -> str:
    """A Jinja literal: Python's string escapes are Jinja's."""
    if isinstance(value, list):
        return "[" + ", ".join(map(_jinja, value)) + "]"
    return repr(value)


def shared_prefix_length(rows: Sequence[Sequence[int]]) -> int:
    """Number of leading ids that all rows share, at least one id short of the shortest row."""
    limit = min(len(row) for row in rows) - 1
    columns: Iterator[tuple[int, ...]] = zip(*(row[:limit] for row in rows), strict=True)
    return next((i for i, column in enumerate(columns) if len(set(column)) > 1), limit)
