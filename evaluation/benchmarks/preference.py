"""Pairs of anybody's: `prompt`, `chosen`, `rejected` in TRL's preference formats; and LLMBar, which is such a set."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wildreward.common.chat import Message, read_messages
from wildreward.common.errors import described
from wildreward.common.prompts import read_answer
from wildreward.evaluation.benchmarks.items import Benchmark, Credits, Item, nan_mean, prompt_field, text_field
from wildreward.evaluation.statistics import Ints

_SPEAKER = re.compile(r"(?:\A|\n\n)(Human|Assistant):")


class Preference(Benchmark):
    """Rows: `prompt`, `chosen`, `rejected`; optional `id`, `subset`, `margin` (how much better), `tie` (true).

    Prompt and answers are texts or lists of messages. Without a `prompt`, `chosen` and `rejected` are whole conversations:
    lists of messages, or texts in which `Human:` and `Assistant:` take turns; what they begin with alike is the prompt.

    >>> Preference().parse({"prompt": "2 + 2?", "chosen": "4", "rejected": "5"}, "")[0].candidates
    ['4', '5']
    """

    name = "pairs"
    rule = "Share of pairs whose chosen answer scores higher; equal scores count half. Rows with a tie are set aside."

    @property
    def row_name(self) -> str:
        """Its name may be a file's."""
        return "preference"

    def parse(self, row: Mapping[str, Any], subset: str) -> list[Item]:
        """One pair, the chosen answer first."""
        given = row.get("subset")
        if given is not None and not isinstance(given, str):
            raise ValueError(f"subset is {described(given)}; expected a text")
        prompt, leads, answers, extra = read_preference(row)
        key = "" if row.get("id") is None else str(row["id"])
        return [Item(key, given or subset, prompt, answers, 1, extra, leads)]

    def cluster(self, item: Item) -> str:
        """Pairs of one prompt are resampled together."""
        return item.prompt_key

    def credit(self, item: Item, scores: Sequence[float]) -> Sequence[float]:
        """1 for a win, half for equal scores."""
        return [(1.0 + float(np.sign(scores[0] - scores[1]))) / 2.0]

    def combine(self, credits: Credits, rows: Ints) -> dict[str, float]:
        """Mean over pairs, and over each subset."""
        subsets = dict(zip(credits.names, credits.means(rows)[:, 0].tolist(), strict=True))
        score = float(credits.values[rows, 0].mean())
        return {
            "score": score,
            **self.parts(subsets),
            **{f"subset:{name}": mean for name, mean in subsets.items() if name},
        }

    def parts(self, subsets: Mapping[str, float]) -> dict[str, float]:
        """Other published numbers that are made of the subsets' means."""
        return {}


class LLMBar(Preference):
    """Preference rows, or the authors' own: `input`, `output_1`, `output_2`, `label` (1 or 2), of files in folders by subset."""

    name = "llmbar"
    expected = ("Natural", *(f"Adversarial/{name}" for name in ("Neighbor", "GPTInst", "GPTOut", "Manual")))
    rule = (
        "Share of pairs whose chosen answer scores higher; equal scores count half. adversarial is the mean of its four "
        "subsets."
    )

    def subset_of(self, path: Path) -> str:
        """The folders above the file: `Natural`, `Adversarial/Neighbor`."""
        return next((name for name in self.expected if path.as_posix().find(f"/{name}/") >= 0), "")

    def parse(self, row: Mapping[str, Any], subset: str) -> list[Item]:
        """One pair, the better answer first."""
        if "output_1" in row:
            if row.get("label") not in (1, 2):
                raise ValueError(f"label is {described(row.get('label'))}; expected 1 or 2")
            outputs = [text_field(row, "output_1", empty=True), text_field(row, "output_2", empty=True)]
            chosen, rejected = outputs if row["label"] == 1 else outputs[::-1]
            row = {"prompt": row.get("input"), "chosen": chosen, "rejected": rejected, "subset": row.get("subset")}
        (item,) = super().parse(row, subset)
        if item.subset not in self.expected:
            raise ValueError(f"subset is {item.subset!r}; expected one of {', '.join(self.expected)}")
        return [item]

    def parts(self, subsets: Mapping[str, float]) -> dict[str, float]:
        """The mean over the adversarial subsets that are there."""
        adversarial = [mean for name, mean in subsets.items() if name.startswith("Adversarial/")]
        return {"adversarial": nan_mean(adversarial)} if adversarial else {}


def _is_margin(value: Any) -> bool:
    try:
        return math.isfinite(value) and value >= 0
    except TypeError:
        return False


def read_preference(
    row: Mapping[str, Any],
) -> tuple[list[Message], tuple[list[Message], ...], list[str], dict[str, Any]]:
    """Prompt, what follows it before each answer (nothing, mostly), the two answers, and `tie` and `margin` (or None).

    Raises:
        ValueError: a column is missing or does not fit.
    """
    tie, margin = row.get("tie"), row.get("margin")
    if tie not in (None, True, False):
        raise ValueError(f"tie is {described(tie)}; expected true or false")
    if margin is not None and (isinstance(margin, bool | str) or not _is_margin(margin)):
        raise ValueError(f"margin is {described(margin)}; expected a number, 0 or more: how much better chosen is")
    if absent := [key for key in ("chosen", "rejected") if row.get(key) is None]:
        found = ", ".join(sorted(str(key)[:40] for key in row))
        raise ValueError(
            f"{' and '.join(absent)} missing; expected prompt, chosen, rejected, found {found or 'nothing'}"
        )
    prompt = None if row.get("prompt") is None else prompt_field(row)
    sides = [_conversation(row[key], key, prompt) for key in ("chosen", "rejected")]
    shared = 0
    while shared < min(map(len, sides)) - 1 and sides[0][shared] == sides[1][shared]:
        shared += 1
    for key, side in zip(("chosen", "rejected"), sides, strict=True):
        roles = [message["role"] for message in side]
        if roles[-1] != "assistant" or "user" not in roles or roles[-2] == "assistant":
            raise ValueError(
                f"{key} has messages of {', '.join(roles)}; expected a user's, answered by the assistant's last"
            )
    if not shared:
        raise ValueError("chosen and rejected do not begin with the same message; expected one prompt for both")
    leads = tuple(side[shared:-1] for side in sides)
    extra = {"tie": bool(tie), "margin": None if margin is None else float(margin)}
    return sides[0][:shared], leads if any(leads) else (), [side[-1]["content"] for side in sides], extra


def _conversation(value: Any, key: str, prompt: list[Message] | None) -> list[Message]:
    """A side from its first message to its answer."""
    if prompt is None:
        messages = _transcript(value) if isinstance(value, str) else read_messages(value, key, keep_reasoning=True)
        if not messages:
            raise ValueError(
                f"prompt missing, and {key} is {described(value)}; expected a prompt, or whole conversations: lists of "
                "messages, or texts in which Human: and Assistant: take turns"
            )
        return messages
    return read_answer(prompt, value, key)


def _transcript(text: str) -> list[Message]:
    """A text whose paragraphs begin with `Human:` and `Assistant:`, as messages; none of any other text."""
    before, *turns = _SPEAKER.split(text)
    if before.strip() or not turns:
        return []
    roles = {"Human": "user", "Assistant": "assistant"}
    pairs = zip(turns[::2], turns[1::2], strict=True)
    return [{"role": roles[speaker], "content": said.strip()} for speaker, said in pairs]
