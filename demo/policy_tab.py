"""*Policy*: what a policy said to held-out prompts before online DPO and after it, with the rewards."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from wildreward.common.errors import UserError
from wildreward.common.files import read_json
from wildreward.common.tables import number_text
from wildreward.demo import markup

ORDERS = ("as held out", "largest gain first", "largest loss first")
PAGE = 5  # prompts shown at once
TILES = {"reward": ("Reward", 3), "length": ("Length in tokens", 1), "kl": ("KL from the reference", 3)}
"""Figure → its title, and digits that are shown."""


def opened(policy: str) -> Callable[[], None]:
    """The tab of a folder that `train-dpo` wrote.

    Raises:
        UserError: it is another folder.
    """
    folder = Path(policy)
    if not (folder / "dpo_results.json").is_file():
        raise UserError(f"{policy} has no dpo_results.json; expected a folder that train-dpo has finished")
    results, rows = read_json(folder / "dpo_results.json"), read_rows(folder / "held_out.jsonl")

    def build() -> None:
        gr.HTML(_measured(results.get("held_out") or {}))
        if not rows:
            gr.HTML(markup.note("This run kept no completions (held_out.jsonl): train the policy again to see them."))
            return
        page = gr.State(0)
        with gr.Row(elem_classes="wr-buttons"):
            order = gr.Dropdown(list(ORDERS), value=ORDERS[0], label="Prompts", min_width=200, scale=0)
            before = gr.Button("Previous", min_width=100, scale=0)
            after = gr.Button("Next", min_width=100, scale=0)
        result = gr.HTML(shown(rows, 0, ORDERS[0])[0], elem_id="wr-completions")
        quiet = {"api_visibility": "private", "show_progress": "hidden"}
        before.click(lambda at, by: shown(rows, at - 1, by), [page, order], [result, page], **quiet)
        after.click(lambda at, by: shown(rows, at + 1, by), [page, order], [result, page], **quiet)
        order.change(lambda by: shown(rows, 0, by), [order], [result, page], **quiet)

    return build


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The prompts that have completions before and after; none where the run kept none.

    Raises:
        UserError: the file is damaged.
    """
    if not path.is_file():
        return []
    try:
        with open(path, encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        return [row for row in rows if row["before"] and row["after"]]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged; expected a prompt a line, as train-dpo writes it") from error


def gain(row: Mapping[str, Any]) -> float:
    """How much the mean reward of a prompt rose."""
    return row["after"]["reward"] - row["before"]["reward"]


def shown(rows: list[dict[str, Any]], page: int, order: str) -> tuple[str, int]:
    """A page of prompts as HTML, around the ends; and its number."""
    if order != ORDERS[0]:
        rows = sorted(rows, key=gain, reverse=order == ORDERS[1])
    page %= -(-len(rows) // PAGE)
    start = page * PAGE
    chosen = rows[start : start + PAGE]
    place = f"{start + 1} to {start + len(chosen)} of {len(rows)} prompts"
    return f'<div class="wr-meta"><span class="wr-place">{place}</span></div>{"".join(map(_prompt, chosen))}', page


def _measured(held_out: Mapping[str, Any]) -> str:
    figures = []
    for key, (title, digits) in TILES.items():
        if change := held_out.get(key):
            before, after, difference = (change[moment] for moment in ("before", "after", "difference"))
            said = f"{number_text(difference['value'])}"
            if difference.get("low") is not None:
                said += f"\n95% {number_text(difference['low'])} to {number_text(difference['high'])}"
            values = f"{number_text(before['value'], digits)} → {number_text(after['value'], digits)}"
            figures.append((title, values, f"difference {said}"))
    return f"<h2>Held-out prompts, before and after</h2>{markup.tiles(figures)}" if figures else ""


def _prompt(row: Mapping[str, Any]) -> str:
    prompt = row["prompt"] if isinstance(row["prompt"], list) else [{"role": "user", "content": row["prompt"]}]
    change = gain(row)
    badge = markup.chip(f"reward {change:+.2f}", "wr-l4" if change > 0 else "wr-l1" if change < 0 else "")
    sides = "".join(
        f'<div><div class="wr-side-head">{moment.capitalize()} · reward {row[moment]["reward"]:.2f} · '
        f"{row[moment]['length']:.0f} tokens</div>{''.join(map(_completion, row[moment]['completions']))}</div>"
        for moment in ("before", "after")
    )
    return (
        f'<article class="wr-card">{badge}{markup.earlier(prompt[:-1])}{"".join(map(markup.bubble, prompt[-1:]))}'
        f'<div class="wr-beside">{sides}</div></article>'
    )


def _completion(one: Mapping[str, Any]) -> str:
    name = f"reward {number_text(one['reward'], 2)} · {one['length']} tokens"
    return markup.bubble({"role": "assistant", "content": one["text"]}, name=name)
