"""*Feedback*: a dataset row by row, what the user said next beside the answer that it judges."""

import random
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import gradio as gr
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from wildreward.common.errors import UserError
from wildreward.common.lookup import load_error_message
from wildreward.common.names import public_name
from wildreward.demo import markup

COLUMNS = ("messages", "user_feedback", "label")
ANY = "any"
FILTERS = ("label", "label_source", "language", "split")
TITLES = {"label": "Level", "label_source": "Source of the level", "language": "Language", "split": "Split"}
SEARCHED = ("user_feedback", "messages", "history")
MOST_CHARACTERS = 200  # of a search
KEPT = 16  # selections whose positions are kept
COMPLAINTS, PRAISE = (1, 2), (3, 4)


class Feedback:
    """A feedback dataset, on disk but for its short columns.

    Raises:
        UserError: it cannot be opened, or has none of the columns.
    """

    def __init__(self, name: str, revision: str | None = None) -> None:
        self.table = _read(name, revision)
        columns = {one: self.table[one].to_pandas() for one in FILTERS if one in self.table.column_names}
        self.columns = {one: column.to_numpy() for one, column in columns.items()}
        self.choices = {one: sorted(column.dropna().unique().tolist()) for one, column in columns.items()}
        self.select = lru_cache(KEPT)(self._select)

    def __len__(self) -> int:
        return len(self.table)

    def _select(self, search: str, **chosen: Any) -> NDArray[np.int64]:
        """Positions of the rows that have what is chosen of `FILTERS` and the searched text in any message, in any case."""
        keep = np.ones(len(self), dtype=bool)
        for name, value in chosen.items():
            if value != ANY:
                keep &= self.columns[name] == value
        if search:
            keep &= self._holds(search)
        return np.flatnonzero(keep)

    def _holds(self, search: str) -> NDArray[np.bool_]:
        found = np.zeros(len(self), dtype=bool)
        for name in (one for one in SEARCHED if one in self.table.column_names):
            start = 0
            for chunk in self.table[name].chunks:
                for part in (chunk.slice(at, 4096) for at in range(0, len(chunk), 4096)):
                    lists = pa.types.is_list(part.type) or pa.types.is_large_list(part.type)
                    rows = pc.list_parent_indices(part) if lists else pa.array(range(len(part)))
                    messages = pc.list_flatten(part) if lists else part
                    texts = pc.struct_field(messages, "content")
                    hits = pc.match_substring(texts, search, ignore_case=True).fill_null(False)
                    found[start + np.unique(rows.filter(hits).to_numpy())] = True
                    start += len(part)
        return found

    def row(self, position: int) -> dict[str, Any]:
        """One row with all its columns."""
        return self.table.slice(position, 1).to_pylist()[0]


def _read(name: str, revision: str | None) -> pa.Table:
    """All splits as one table, with a column `split`."""
    from datasets import load_dataset
    from datasets.exceptions import DatasetGenerationError

    try:
        splits = load_dataset(name, revision=revision)
    except (OSError, ValueError, DatasetGenerationError) as error:
        raise UserError(f"{name} is no dataset that can be opened: {load_error_message(name, error)}") from error
    tables = []
    for split, data in splits.items():
        missing = [column for column in COLUMNS if column not in data.column_names]
        if missing:
            raise UserError(
                f"{public_name(name)}, split {split}, has no column {', '.join(missing)}; expected a dataset as build-dataset "
                f"writes it, found {', '.join(data.column_names)}"
            )
        table = data.with_format("arrow").data.table
        tables.append(table.append_column("split", pa.array([split] * len(table), pa.string())))
    return pa.concat_tables(tables)


def opened(name: str, revision: str | None) -> Callable[[], None]:
    """The tab of a dataset."""
    data = Feedback(name, revision)

    def build() -> None:
        position, filters = gr.State(0), []
        names = [one for one in FILTERS if one in data.choices]
        with gr.Row(elem_classes="wr-filters"):
            for one in names:
                choices = [(ANY, ANY), *((_called(one, value), value) for value in data.choices[one])]
                filters.append(gr.Dropdown(choices, value=ANY, label=TITLES[one], min_width=140))
            search = gr.Textbox(label="Search", placeholder="words in any message", max_lines=1, min_width=180)
        with gr.Row(elem_classes="wr-buttons"):
            before = gr.Button("Previous", min_width=100, scale=0)
            after = gr.Button("Next", min_width=100, scale=0)
            complaint = gr.Button("Random complaint", min_width=180, scale=0)
            praise = gr.Button("Random praise", min_width=140, scale=0)
        first, _ = shown(data, names, 0, "", *[ANY] * len(filters))
        result = gr.HTML(first, elem_id="wr-row")
        inputs, outputs = [position, search, *filters], [result, position]
        quiet = {"api_visibility": "private", "show_progress": "hidden"}

        def moved(step: int) -> Callable[..., tuple[str, int]]:
            return lambda at, *rest: shown(data, names, at + step, *rest)

        def drawn(labels: Sequence[int]) -> Callable[..., tuple[str, int]]:
            return lambda at, *rest: random_row(data, names, labels, at, *rest)

        before.click(moved(-1), inputs, outputs, **quiet)
        after.click(moved(1), inputs, outputs, **quiet)
        complaint.click(drawn(COMPLAINTS), inputs, outputs, **quiet)
        praise.click(drawn(PRAISE), inputs, outputs, **quiet)
        for event in (search.submit, *(one.change for one in filters)):
            event(lambda _, *rest: shown(data, names, 0, *rest), inputs, outputs, **quiet)

    return build


def shown(data: Feedback, names: Sequence[str], at: int, search: str, *chosen: Any) -> tuple[str, int]:
    """The row in place `at` of those selected, around the ends, as HTML; and its place."""
    try:
        found = data.select(_checked(search), **dict(zip(names, chosen, strict=True)))
        if not len(found):
            raise UserError("no row has all of this; choose another filter or search")
    except UserError as error:
        return markup.error(error), 0
    at %= len(found)
    return _page(data.row(int(found[at])), f"{at + 1:,} of {len(found):,} rows"), at


def random_row(
    data: Feedback, names: Sequence[str], labels: Sequence[int], at: int, search: str, *chosen: Any
) -> tuple[str, int]:
    """A random row among those selected that has one of the labels; the place stays where none has."""
    try:
        found = data.select(_checked(search), **dict(zip(names, chosen, strict=True)))
        places = np.flatnonzero(np.isin(data.columns["label"][found], labels))
        if not len(places):
            raise UserError(
                f"no selected row is at a level of {' or '.join(map(markup.level_word, labels))}; loosen the filters"
            )
    except UserError as error:
        return markup.error(error), at
    return shown(data, names, random.choice(places.tolist()), search, *chosen)


def _checked(search: str) -> str:
    if len(search) > MOST_CHARACTERS:
        raise UserError(f"the search has {len(search):,} characters; expected at most {MOST_CHARACTERS}")
    return search.strip()


def _called(name: str, value: Any) -> str:
    return markup.level_word(value) if name == "label" else str(value)


def _page(row: dict[str, Any], place: str) -> str:
    label = row["label"]
    chips = [markup.chip(markup.level_word(label), markup.level_class(label))]
    chips += [markup.chip(row[name]) for name in FILTERS[1:] if row.get(name)]
    confidence = row.get("label_confidence")
    chips += [markup.chip(f"confidence {confidence:.2f}")] if confidence is not None else []
    question, answer = row["messages"][:-1], row["messages"][-1]
    said = markup.bubble(row["user_feedback"], f"wr-feedback {markup.level_class(label)}", "What the user said next")
    return (
        f'<div class="wr-meta"><span class="wr-place">{place}</span>{"".join(chips)}<code>{markup.text(row.get("id", ""), 80)}</code></div>'
        f"{markup.earlier(row.get('history') or [])}{''.join(map(markup.bubble, question))}"
        f'<div class="wr-beside">{markup.bubble(answer)}{said}</div>'
    )
