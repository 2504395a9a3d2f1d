"""The whole build: source → parts → labels → implicit feedback → candidates → dataset folder."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wildreward.bundled import resolve
from wildreward.dataset_builder import steps
from wildreward.dataset_builder.costs import Prices
from wildreward.dataset_builder.filters import Limits
from wildreward.dataset_builder.finish import Rules
from wildreward.dataset_builder.ingest import dropped_conversations, find_repeats, ingested_parts, write_repeats
from wildreward.dataset_builder.labelers.base import Answer, Labeler, Task
from wildreward.dataset_builder.labeling import label_paid
from wildreward.dataset_builder.parts import count_turns
from wildreward.dataset_builder.sources.base import Columns
from wildreward.dataset_builder.sources.layouts import find_layout
from wildreward.dataset_builder.sources.readers import Losses, Slice, columns_of, find_slices
from wildreward.dataset_builder.workers import LazyEncoder, Workers
from wildreward.errors import UserError
from wildreward.files import FolderLock, make_folder, read_json, write_json
from wildreward.settings import check_settings

logger = logging.getLogger(__name__)

MINILM = "sentence-transformers/all-MiniLM-L6-v2"


def build_dataset(
    source: str,
    output: str | Path,
    *,
    labeler: str = "cues",
    labeler_options: dict[str, Any] | None = None,
    layout: str = "auto",
    columns: Columns | None = None,
    on_bad_input: str = "error",
    limit: int | None = None,
    languages: tuple[str, ...] | list[str] = ("English", "Chinese"),
    max_words: int = 4096,
    mining_window: int = 2,
    mining_threshold: float = 0.5,
    mining_encoder: str = MINILM,
    mining_max_tokens: int = 128,
    personal_data: str = "drop",
    near_duplicates: float = 0.9,
    limits: Limits | None = None,
    test_fraction: float = 0.1,
    seed: int = 0,
    prices: Prices | None = None,
    num_workers: int = 1,
) -> dict[str, Any]:
    """Build a dataset folder and return its report (what `build_report.json` holds).

    A run that was interrupted goes on where it stopped when it is called again with the same arguments; a finished
    folder is left as it is.

    Args:
        source: a file, a folder or a Hub dataset id.
        output: the dataset folder.
        labeler: cues, llm, transformers or file.
        labeler_options: what the labeler's class takes.
        layout, columns: what the source looks like, see `sources.layouts`.
        on_bad_input: "error", or "skip" to count what cannot be read.
        limit: use the first conversations of the source only.
        languages: to keep, where the language is known; empty for all.
        max_words: longest history, query and response together.
        mining_window, mining_threshold, mining_encoder, mining_max_tokens: implicit feedback; a window of 0 turns it off.
        personal_data: drop, redact or keep turns with personal data.
        near_duplicates: similarity from which turns count as copies; 0 for exact copies only.
        limits: lengths that turns must keep.
        test_fraction: share of users on the test side.
        seed: of the split.
        prices: of tokens, for the cost in the progress bar and the report.
        num_workers: processes; the rows do not depend on it.

    Raises:
        UserError: for everything the user can put right.
    """
    _check(on_bad_input, personal_data, test_fraction, num_workers)
    path, output = resolve(source), Path(output)
    losses = Losses(skip=on_bad_input == "skip")
    slices = find_slices(path, losses)
    if not slices:
        raise UserError(f"{source} holds nothing that can be read")
    found_layout = find_layout(_first_columns(slices), name=layout, columns=columns, where=source)
    plan = steps.Plan(
        folder=output / "work",
        layout=found_layout,
        skip_bad_input=losses.skip,
        languages=list(languages),
        max_words=max_words,
        labeler=labeler,
        labeler_options=labeler_options or {},
        mining_window=mining_window,
        mining_encoder=mining_encoder,
        mining_max_tokens=mining_max_tokens,
        rules=Rules(mining_threshold, personal_data, limits or Limits()),
        near_duplicates=near_duplicates,
        seed=seed,
        test_fraction=test_fraction,
    )
    settings = {
        "source": source,
        "source_bytes": _source_bytes(slices),
        "layout": found_layout.name,
        "columns": vars(found_layout.columns),
        "on_bad_input": on_bad_input,
        "limit": limit,
        "languages": plan.languages,
        "max_words": max_words,
        "mining_window": mining_window,
        "mining_threshold": mining_threshold,
        "mining_encoder": mining_encoder,
        "mining_max_tokens": mining_max_tokens,
        "personal_data": personal_data,
        "near_duplicates": near_duplicates,
        "limits": vars(plan.rules.limits),
        "test_fraction": test_fraction,
        "seed": seed,
    }
    make_folder(output)
    with FolderLock(plan.folder), plan.make_labeler() as made:
        settings = {**settings, "labeler": labeler, "labeler_version": made.version}
        check_settings(plan.folder, settings)
        report_path = output / "build_report.json"
        if report_path.exists():
            logger.info("%s is complete", output)
            return read_json(report_path)
        with Workers(num_workers) as workers:
            return Build(plan, output, slices, settings, workers, Counter(losses.counts), prices or Prices()).run(limit)


@dataclass
class Build:
    """One run through the steps."""

    plan: steps.Plan
    output: Path
    slices: list[Slice]
    settings: dict[str, Any]
    workers: Workers
    losses: Counter
    prices: Prices
    seconds: dict[str, float] = field(default_factory=dict)

    def run(self, limit: int | None) -> dict[str, Any]:
        plan = self.plan
        with self._timed("read"):
            self._ingest(limit)
            parts, source = ingested_parts(plan.conversations)
            source.update({f"lost.{reason}": count for reason, count in self.losses.items()})
            if not parts:
                raise UserError(f"{self.settings['source']} holds no usable conversation ({dict(source)})")
            repeats = find_repeats(parts)
            write_repeats(plan.repeats, repeats)
        with self._timed("label"):
            self._label(parts)
        with self._timed("mine"):
            self._compare(parts)
        with self._timed("filter"):
            self.workers.each(steps.finish, [(plan, part) for part in parts], "filter")
        with self._timed("write"):
            return self._write(parts, source, dropped_conversations(source, repeats))

    def _ingest(self, limit: int | None) -> None:
        make_folder(self.plan.conversations)
        tasks = [(self.plan, f"{number:05d}", piece) for number, piece in enumerate(self.slices)]
        if limit is None:
            self.workers.each(steps.ingest, tasks, "read")
            return
        for task in tasks:
            limit -= steps.ingest(*task, limit=limit)
            if limit <= 0:
                return

    def _label(self, parts: list[Path]) -> None:
        plan, labeler = self.plan, self.plan.make_labeler()
        if not labeler.paid:
            self.workers.each(steps.label, [(plan, part) for part in parts], "label")
        else:
            self._ask(parts, labeler, "feedback", steps.turns_of, plan.feedback)
            if labeler.judges_refusals:
                self._ask(parts, labeler, "refusal", steps.labelled_turns_of, plan.refusals)
            else:
                self.workers.each(steps.label_none, [(plan, part) for part in parts], "label")
            self.workers.each(steps.pair, [(plan, part) for part in parts], "pair")

    def _ask(self, parts: list[Path], labeler: Labeler, task: Task, turns: Callable, folder: Path) -> None:
        """One stream of questions over all parts to a paid labeler, with what it has cost so far in the progress bar."""
        from tqdm.auto import tqdm

        total = count_turns(parts) if task == "feedback" else None
        with tqdm(total=total, desc=task, unit="turn", leave=False, smoothing=0.05) as bar:

            def on_answer(answer: Answer) -> None:
                bar.update()
                if bar.n % 20 == 0:
                    bar.set_postfix_str(self.prices.progress(labeler, bar.n, bar.total))

            label_paid(parts, lambda part: turns(self.plan, part), labeler, task, folder, on_answer=on_answer)

    def _compare(self, parts: list[Path]) -> None:
        from tqdm.auto import tqdm

        encoder = LazyEncoder(self.plan.mining_encoder, self.plan.mining_max_tokens)
        for part in tqdm(parts, desc="mine", unit="part", leave=False):
            steps.compare(self.plan, part, encoder)

    def _write(self, parts: list[Path], source: Counter, source_dropped: dict[str, int]) -> dict[str, Any]:
        from wildreward.dataset_builder import card, figures, writer
        from wildreward.dataset_builder.report import make_report

        plan = self.plan
        duplicates = writer.duplicates_among(plan.candidates, parts, plan.near_duplicates)
        written = writer.write_dataset(self.output, plan.candidates, parts, duplicates)
        writer.write_levels(
            plan.folder / "levels.parquet", plan.turns, parts, writer.duplicate_ids(plan.candidates, duplicates)
        )
        turns: Counter = Counter()
        for part in parts:
            turns.update(read_json(plan.candidates / f"{part.stem}.json"))
        report = make_report(
            source=source,
            source_dropped=source_dropped,
            turns=turns,
            duplicates=Counter(reason for rows in duplicates.values() for reason in rows.values()),
            written=written,
            seconds=self.seconds,
            settings=self.settings,
        )
        drawn = [path.name for path in figures.draw(report, self.output / "figures")]
        text = card.render(report, title=self.output.resolve().name, figures=drawn)
        (self.output / "README.md").write_text(text, encoding="utf-8")
        write_json(self.output / "build_report.json", report)
        return report

    @contextmanager
    def _timed(self, stage: str) -> Iterable[None]:
        start = time.monotonic()
        yield
        self.seconds[stage] = time.monotonic() - start


def _check(on_bad_input: str, personal_data: str, test_fraction: float, num_workers: int) -> None:
    if on_bad_input not in ("error", "skip"):
        raise UserError(f"--on-bad-input must be error or skip, got {on_bad_input!r}")
    if personal_data not in ("drop", "redact", "keep"):
        raise UserError(f"--personal-data must be drop, redact or keep, got {personal_data!r}")
    if not 0 <= test_fraction < 1:
        raise UserError(f"--test-fraction must be at least 0 and below 1, got {test_fraction}")
    if num_workers < 1:
        raise UserError(f"--num-workers must be at least 1, got {num_workers}")


def _first_columns(slices: list[Slice]) -> set[str]:
    for piece in slices:
        found = columns_of(piece)
        if found:
            return found
    return set()


def _source_bytes(slices: list[Slice]) -> int | None:
    files = {piece.path for piece in slices if piece.kind != "hub"}
    return sum(Path(file).stat().st_size for file in files) if files else None
