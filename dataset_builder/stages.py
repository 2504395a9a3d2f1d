"""The stages of a build in their order. Each may be spread over processes or machines; the next one starts when all are done.

`read` (by slices of the source) → `index` → `label` → `compare` → `finish` (by parts) → `write`. A stage given only some
of the parts does only those, so a pool, a Slurm job array and a single process run the same functions with the same result.
On one machine `decide` takes the place of the three stages by parts: a part need not wait for the others.
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from wildreward.dataset_builder import steps
from wildreward.dataset_builder.costs import Prices
from wildreward.dataset_builder.ingest import (
    count_users,
    doubt_about_users,
    dropped_conversations,
    find_repeats,
    ingested_parts,
    naming_key,
    read_repeats,
    write_repeats,
)
from wildreward.dataset_builder.labelers.base import Answer, Labeler, Task
from wildreward.dataset_builder.labeling import check_failures, label_paid, left_to_ask
from wildreward.dataset_builder.sources.readers import Slice
from wildreward.dataset_builder.sources.unusable import why_unusable
from wildreward.dataset_builder.workers import Step, Workers
from wildreward.errors import UserError
from wildreward.files import make_folder, read_json, write_json

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """A build that has been checked and can start.

    Attributes:
        plan: what the steps need to know.
        output: the dataset folder.
        slices: of the source.
        settings: what the result depends on.
        losses: reason → how often, of files that could not even be opened.
        limit: use the first conversations only.
        prices: of tokens.
        max_failed: share of questions to a paid labeler that may stay unanswered because the server failed.
    """

    plan: steps.Plan
    output: Path
    slices: list[Slice]
    settings: dict[str, Any]
    losses: dict[str, int] = field(default_factory=dict)
    limit: int | None = None
    prices: Prices = field(default_factory=Prices)
    max_failed: float = 0.01

    @property
    def parts(self) -> list[Path]:
        """All parts, once `read` is done."""
        return ingested_parts(self.plan.conversations)[0]


def read(job: Job, workers: Workers, rank: int = 0, world: int = 1) -> None:
    """Read every `world`-th slice of the source into parts; with a limit the first rank reads, and stops there."""
    make_folder(job.plan.conversations)
    tasks = [(f"{number:05d}", piece) for number, piece in enumerate(job.slices)]
    if job.limit is None:
        workers.each(steps.ingest, tasks[rank::world], "read")
        return
    left = job.limit if rank == 0 else 0
    for task in tasks:
        if left <= 0:
            return
        left -= steps.ingest(job.plan, *task, limit=left)


def index(job: Job, workers: Workers) -> None:
    """Find copies and shared ids among all conversations, once."""
    if not job.plan.repeats.exists():
        workers.each(_index, [(job.settings["source"], job.slices)], "index")
        if doubt := doubt_about_users(read_json(job.plan.names)["users"]):
            logger.warning("%s", doubt)  # here, where no progress bar is in the line


def _index(plan: steps.Plan, source: str, slices: Sequence[Slice]) -> None:
    parts, counts = ingested_parts(plan.conversations)
    if not parts:
        seen = ", ".join(f"{reason} {count}" for reason, count in sorted(counts.items()))
        why = why_unusable(plan.layout, slices, counts)
        raise UserError(f"{source} holds no usable conversation ({seen or 'it is empty'}){': ' if why else ''}{why}")
    write_json(plan.names, {"key": naming_key(parts), "users": count_users(parts)})
    write_repeats(plan.repeats, find_repeats(parts))


def label(job: Job, workers: Workers, parts: Sequence[Path]) -> None:
    """Levels, refusal verdicts and candidates for implicit feedback."""
    labeler = job.plan.make_labeler()
    if not labeler.paid:
        workers.chain([_label(job)], _tasks(parts), "label")
        return
    for part in parts:
        steps.reopen(job.plan, part)
    _ask(job, parts, labeler, "feedback", steps.turns_of, job.plan.feedback)
    if labeler.judges_refusals:
        _ask(job, parts, labeler, "refusal", steps.labelled_turns_of, job.plan.refusals)
    else:
        workers.each(steps.label_none, _tasks(parts), "label")
    workers.each(steps.pair, _tasks(parts), "pair")


def compare(job: Job, workers: Workers, parts: Sequence[Path]) -> None:
    """How similar the candidate pairs are."""
    workers.chain([_compare(job)], _tasks(parts), "mine")


def finish(job: Job, workers: Workers, parts: Sequence[Path]) -> None:
    """Decide about every turn."""
    workers.each(steps.finish, _tasks(parts), "filter")


def decide(job: Job, workers: Workers, parts: Sequence[Path]) -> None:
    """`label` by a labeler that costs nothing, `compare` and `finish` at once: each part goes on as soon as it can."""
    workers.chain([_label(job), _compare(job), Step(steps.finish)], _tasks(parts), "decide")


def write(job: Job, workers: Workers, seconds: dict[str, float]) -> dict[str, Any]:
    """Remove duplicates, write the dataset's files, figures, card and, last, the report, which is returned."""
    workers.each(_write, [(job, seconds)], "write")
    report = read_json(job.output / "build_report.json")
    if report["mining_pairs_not_compared"]:
        logger.warning(
            "%d pairs of turns in other letters than Latin ones were not compared for implicit feedback, which %s cannot "
            "read; a multilingual --mining_encoder can",
            report["mining_pairs_not_compared"],
            report["settings"]["mining_encoder"],
        )
    return report


def _write(plan: steps.Plan, job: Job, seconds: dict[str, float]) -> None:
    from wildreward.dataset_builder import card, figures, writer
    from wildreward.dataset_builder.privacy import public_row, redact
    from wildreward.dataset_builder.report import make_report

    output = job.output
    parts, source = ingested_parts(plan.conversations)
    source.update({f"lost.{reason}": count for reason, count in job.losses.items()})
    duplicates = writer.duplicates_among(plan.candidates, parts, plan.near_duplicates)
    publish = partial(public_row, key=plan.naming_key, personal_data=plan.rules.personal_data != "keep")
    written = writer.write_dataset(output, plan.candidates, parts, duplicates, publish)
    dropped_ids = writer.duplicate_ids(plan.candidates, duplicates)
    writer.write_levels(plan.folder / "levels.parquet", plan.turns, parts, dropped_ids)
    turns: Counter = Counter()
    for part in parts:
        turns.update(read_json(plan.candidates / f"{part.stem}.json"))
    report = make_report(
        source=source,
        source_dropped=dropped_conversations(source, read_repeats(plan.repeats)),
        users=read_json(plan.names).get("users", {}),
        turns=turns,
        duplicates=Counter(reason for rows in duplicates.values() for reason in rows.values()),
        written=written,
        seconds=seconds,
        settings=job.settings,
        labeler=plan.make_labeler().quality,
    )
    if report["kept"]:
        drawn = [path.name for path in figures.draw(report, output / "figures")]
        card.write(output / "README.md", report, title=redact(output.resolve().name), figures=drawn)
    write_json(output / "build_report.json", report)


def _label(job: Job) -> Step:
    """The step of a labeler that costs nothing."""
    apart = job.plan.make_labeler().uses_all_cores
    return Step(steps.label, done=lambda part: (job.plan.pairs / part.name).exists(), apart=apart)


def _compare(job: Job) -> Step:
    """The step of the sentence encoder; parts without candidates do not need it."""
    return Step(steps.compare, done=lambda part: (job.plan.similarities / part.name).exists(), apart=True)


def _tasks(parts: Sequence[Path]) -> list[tuple[Path]]:
    return [(part,) for part in parts]


def _ask(
    job: Job, parts: Sequence[Path], labeler: Labeler, task: Task, turns: Callable[..., Any], folder: Path
) -> None:
    """One stream of questions over all parts to a paid labeler; the progress bar shows what it has cost so far."""
    from tqdm.auto import tqdm

    total = None
    if task == "feedback":
        total = left_to_ask(parts, lambda part: turns(job.plan, part, wanted=set()), labeler, folder)
    with tqdm(total=total, desc=task, unit="turn", leave=False, smoothing=0.05) as bar:

        def on_answer(answer: Answer) -> None:
            bar.update()
            if bar.n % 20 == 0:
                bar.set_postfix_str(job.prices.progress(labeler, bar.n, bar.total))

        label_paid(parts, lambda part: turns(job.plan, part), labeler, task, folder, on_answer=on_answer)
    check_failures(parts, folder, job.max_failed)
