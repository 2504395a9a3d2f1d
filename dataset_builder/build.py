"""The whole build on this machine: the stages of `stages.py`, one after the other."""

import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wildreward.common.errors import UserError
from wildreward.common.files import FolderLock, make_folder, read_json, write_json
from wildreward.common.llm.ledger import totals
from wildreward.common.settings import check_settings, reopen_settings
from wildreward.dataset_builder.prepare import prepare, sweep
from wildreward.dataset_builder.report import failed_questions
from wildreward.dataset_builder.settings import BuildSettings
from wildreward.dataset_builder.sources.readers import SourceLost
from wildreward.dataset_builder.stages import STAGES, Build
from wildreward.dataset_builder.workers import WorkerDied, Workers

logger = logging.getLogger(__name__)


def build_dataset(source: str, output: str | Path, **options: Any) -> dict[str, Any]:
    """Build a dataset folder and return its report (what `build_report.json` holds).

    A run that was interrupted goes on where it stopped when it is called again with the same options; a finished folder is
    left as it is.

    Args:
        source: a file, a folder or a Hub dataset id.
        output: the dataset folder.
        options: the fields of `BuildSettings`; `num_workers` is 1 here where it is not given.

    Raises:
        UserError: for everything the user can put right.
    """
    return run_build(BuildSettings(source=str(source), output=str(output), **{"num_workers": 1, **options}))


def run_build(settings: BuildSettings) -> dict[str, Any]:
    """The same from settings."""
    build = prepare(settings)
    report = build.output / "build_report.json"
    with FolderLock(build.work):
        bind_settings(build)
        if report.exists():
            if not (settings.ask_failed_again and failed_questions(read_json(report))):
                logger.info("%s is complete", build.output)
                return read_json(report)
            report.unlink()
        with build.labeler, Workers(build, settings.num_workers) as workers:
            seconds: dict[str, float] = {}
            for name, stage in STAGES.items():
                start = time.monotonic()
                with settings_can_change(build, name):
                    workers.run(name, stage)
                seconds[name] = round(time.monotonic() - start, 2)
                write_json(build.work / "seconds.json", seconds)
    return read_json(report)


def bind_settings(build: Build) -> None:
    """Make the output folder, refuse it when it was made with other settings, and clear what a killed run left half-written.

    To be called with the folder's lock held.
    """
    make_folder(build.output)
    make_folder(build.work)
    check_settings(build.work, build.compared)
    sweep(build.output)


@contextmanager
def settings_can_change(build: Build, stage: str) -> Iterator[None]:
    """Where a stage is refused, let the next run choose what nothing was made under yet: after all, the remedy may be another
    setting. While the source is read that is all; before the first answer, the labeler's.
    """
    feedback = build.work / "feedback"
    try:
        yield
    except (WorkerDied, SourceLost):
        raise
    except UserError:
        if stage in ("read", "shard") and not (feedback.exists() or build.ledger.exists()):
            shutil.rmtree(build.work / "conversations", ignore_errors=True)
            for name in ("seconds.json", "settings.json"):  # in this order: what was read must not outlive its settings
                (build.work / name).unlink(missing_ok=True)
        if stage == "label" and not (totals(build.ledger)["answers"] or any(feedback.glob("*.parquet"))):
            # with those called `labeler.<option>`: nothing but labels depends on them
            reopen_settings(build.work, "labeler", "labeler_version")
        raise
