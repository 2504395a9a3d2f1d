"""The whole build: source → parts → labels → implicit feedback → candidates → dataset folder."""

import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wildreward.bundled import MINILM, resolve
from wildreward.dataset_builder import dedup, stages, steps
from wildreward.dataset_builder.costs import Prices
from wildreward.dataset_builder.encoder_files import check_encoder
from wildreward.dataset_builder.filters import Limits
from wildreward.dataset_builder.finish import Rules
from wildreward.dataset_builder.output import check_output, sweep
from wildreward.dataset_builder.report import failed_questions
from wildreward.dataset_builder.sources.base import Columns, Layout
from wildreward.dataset_builder.sources.digest import source_digest
from wildreward.dataset_builder.sources.layouts import find_layout
from wildreward.dataset_builder.sources.opening import reason
from wildreward.dataset_builder.sources.readers import Losses, Slice, SourceLost, columns_of, find_slices, lacking
from wildreward.dataset_builder.stages import Job
from wildreward.dataset_builder.workers import WorkerDied, Workers
from wildreward.errors import UserError
from wildreward.files import FolderLock, make_folder, read_json
from wildreward.settings import check_least, check_range, check_settings, reopen_settings

logger = logging.getLogger(__name__)

# With those called `labeler.<option>`: nothing but labels depends on them.
LABELER_SETTINGS = ("labeler", "labeler_version", "cues_classifier")


def build_dataset(
    source: str, output: str | Path, *, num_workers: int = 1, ask_failed_again: bool = False, **settings: Any
) -> dict[str, Any]:
    """Build a dataset folder and return its report (what `build_report.json` holds).

    A run that was interrupted goes on where it stopped when it is called again with the same arguments; a finished
    folder is left as it is.

    Args:
        source: a file, a folder or a Hub dataset id.
        output: the dataset folder.
        num_workers: processes; the rows do not depend on it.
        ask_failed_again: in a finished folder, ask a paid labeler again what its server failed on, if anything, and write
            the dataset anew. (A run that did not finish always does.)
        settings: everything else that `prepare` takes.

    Raises:
        UserError: for everything the user can put right.
    """
    check_least(("num_workers", num_workers, 1))
    job = prepare(source, output, **settings)
    report = job.output / "build_report.json"
    with FolderLock(job.plan.folder):
        claim(job)
        if report.exists():
            if not (ask_failed_again and failed_questions(read_json(report))):
                logger.info("%s is complete", output)
                return read_json(report)
            report.unlink()
        from_hub = any(piece.kind == "hub" for piece in job.slices)
        with job.plan.make_labeler(), Workers(num_workers, job.plan, pandas=from_hub) as workers:
            return run(job, workers)


def run(job: Job, workers: Workers) -> dict[str, Any]:
    """All stages, on this machine."""
    seconds: dict[str, float] = {}
    with timed(seconds, "read"):
        try:
            stages.read(job, workers)
            stages.index(job, workers)
        except (WorkerDied, SourceLost):
            raise
        except UserError:
            forget(job)  # the remedy may be another setting
            raise
    if job.plan.make_labeler().paid:
        with timed(seconds, "label"), labeler_can_change(job):
            stages.label(job, workers, job.parts)
    with timed(seconds, "decide"):
        stages.decide(job, workers, job.parts)
    return stages.write(job, workers, seconds)


def forget(job: Job) -> None:
    """Let the next run choose other settings, unless labels were given under these: they may have been paid for."""
    plan = job.plan
    if plan.feedback.exists():
        return
    if plan.conversations.exists():
        shutil.rmtree(plan.conversations)
    for path in (plan.repeats, plan.names):
        path.unlink(missing_ok=True)
    (plan.folder / "settings.json").unlink(missing_ok=True)  # last: what was read under these must not outlive them


@contextmanager
def labeler_can_change(job: Job) -> Iterator[None]:
    """Where the labeler is refused before it has given any answer, let the next run choose another for what was read."""
    plan = job.plan
    try:
        yield
    except UserError:
        answers = (path for pattern in ("*.jsonl", "*.parquet") for path in plan.feedback.rglob(pattern))
        if not any(path.stat().st_size for path in answers):
            reopen_settings(plan.folder, *LABELER_SETTINGS)
        raise


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Add the wall-clock time of the block to `seconds`."""
    start = time.monotonic()
    yield
    seconds[stage] = time.monotonic() - start


def prepare(
    source: str,
    output: str | Path,
    *,
    labeler: str = "cues",
    labeler_options: dict[str, Any] | None = None,
    layout: str = "auto",
    columns: Columns | None = None,
    revision: str | None = None,
    on_bad_input: str = "error",
    limit: int | None = None,
    languages: str | Sequence[str] = ("English", "Chinese"),
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
    max_failed: float = 0.01,
) -> Job:
    """Check everything that can be checked before work starts. Writes nothing.

    Args:
        source: a file, a folder or a Hub dataset id.
        output: the dataset folder.
        labeler: cues, classifier, llm, transformers or file.
        labeler_options: what the labeler's class takes.
        layout, columns: what the source looks like, see `sources.layouts`.
        revision: commit, branch or tag of a Hub dataset; None: its main branch. The settings keep the commit.
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
        max_failed: share of questions that may stay unanswered because the labeler's server failed or was too slow.

    Raises:
        UserError: for everything the user can put right.
    """
    _check(on_bad_input, personal_data, test_fraction)
    check_range(
        ("max_failed", max_failed, 0, 1),
        ("near_duplicates", near_duplicates, 0, 1),
        ("mining_threshold", mining_threshold, -1, 1),
    )
    # an encoder reads a word between two marks
    lengths = (("max_words", max_words, 1), ("mining_max_tokens", mining_max_tokens, 3))
    check_least(("limit", limit, 1), ("mining_window", mining_window, 0), *lengths)
    path, output = source if revision else resolve(source), Path(output)
    check_output(output, Path(path))
    losses = Losses(skip=on_bad_input == "skip")
    slices = find_slices(path, losses, revision)
    if not slices:
        raise UserError(f"{source} holds nothing that can be read{_because(losses)}")
    if mining_window > 0:
        check_encoder(mining_encoder)
    found_layout = find_layout(_first_columns(slices, source), name=layout, columns=columns, where=source)
    _check_files(slices, found_layout, columns or Columns(), losses)
    plan = steps.Plan(
        folder=output / "work",
        layout=found_layout,
        skip_bad_input=losses.skip,
        languages=[languages] if isinstance(languages, str) else list(languages),
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
        **_source_state(slices),
        "revision": slices[0].revision,
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
        "near_duplicates_version": dedup.VERSION,
        "limits": vars(plan.rules.limits),
        "test_fraction": test_fraction,
        "seed": seed,
    }
    settings = {**settings, "labeler": labeler, "labeler_version": plan.make_labeler().version}
    settings |= {f"labeler.{option}": value for option, value in plan.make_labeler().settings.items()}
    if labeler == "cues":
        settings["cues_classifier"] = plan.labeler_options.get("classifier", True)
    return Job(plan, output, slices, settings, dict(losses.counts), limit, prices or Prices(), max_failed)


def claim(job: Job) -> None:
    """Make the output folder, refuse it when it was made with other settings, and clear what a killed run left half-written.

    To be called with the folder's lock held.
    """
    make_folder(job.output)
    make_folder(job.plan.folder)
    check_settings(job.plan.folder, job.settings)
    sweep(job.output)


def _check(on_bad_input: str, personal_data: str, test_fraction: float) -> None:
    if on_bad_input not in ("error", "skip"):
        raise UserError(f"--on_bad_input is {on_bad_input!r}; expected error or skip")
    if personal_data not in ("drop", "redact", "keep"):
        raise UserError(f"--personal_data is {personal_data!r}; expected drop, redact or keep")
    if not 0 <= test_fraction < 1:
        raise UserError(f"--test_fraction is {test_fraction}; expected at least 0 and below 1")


def _first_columns(slices: list[Slice], source: str) -> set[str]:
    losses = Losses(skip=True)
    for piece in slices:
        found = columns_of(piece, losses)
        if found:
            return found
    raise UserError(
        f"{source} holds no complete record{_because(losses)}; expected at least one JSON object or parquet row"
    )


def _check_files(slices: list[Slice], layout: Layout, given: Columns, losses: Losses) -> None:
    """A folder may hold files of two kinds: those that do not fit would be lost row by row, or lose their users."""
    named = [name for key, name in vars(given).items() if name and key not in ("role", "content")]
    for path in lacking(slices, layout.required, named):
        expected = ", ".join(dict.fromkeys([*layout.required, *named]))
        losses.add("other_columns", f"{path} does not have the columns of the other files ({layout.name}: {expected})")


def _because(losses: Losses) -> str:
    return f" ({losses.first})" if losses.first else ""


def _source_state(slices: list[Slice]) -> dict[str, Any]:
    """What changes when the source's files do; a Hub dataset has its commit."""
    files = list(dict.fromkeys(piece.path for piece in slices if piece.kind != "hub"))
    if not files:
        return {"source_bytes": None, "source_digest": None}
    try:
        size = sum(Path(file).stat().st_size for file in files)
        return {"source_bytes": size, "source_digest": source_digest(files)}
    except OSError as error:
        raise UserError(f"{error.filename or 'a file of the source'} cannot be read ({reason(error)})") from error
