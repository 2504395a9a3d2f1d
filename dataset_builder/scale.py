"""A build beyond one machine, through datatrove's executors (extra `scale`): Slurm, Ray, Hugging Face Jobs, or local.

    from datatrove.executor import SlurmPipelineExecutor
    from wildreward.dataset_builder.scale import run_stages

    run_stages(
        SlurmPipelineExecutor,
        dict(source="allenai/WildChat-4.8M", output="/shared/wildfb", labeler="llm", labeler_options={...}),
        tasks=256, time="08:00:00", partition="cpu", logging_dir="/shared/logs",
    )

Each stage is one executor that depends on the one before; each of its tasks takes every n-th slice or part. All tasks
see the same folder. What a killed task had finished is not done again. The rows are those of a local build.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wildreward.dataset_builder import stages
from wildreward.dataset_builder.pipeline import claim, prepare
from wildreward.dataset_builder.stages import Job
from wildreward.dataset_builder.workers import Workers
from wildreward.errors import UserError
from wildreward.files import FolderLock

try:
    from datatrove.pipeline.base import PipelineStep
except ImportError as error:
    raise UserError(
        "builds beyond one machine need datatrove; install it with: pip install 'wildreward[scale]'"
    ) from error

# Stages that are one task, whatever the number of tasks of the others.
SINGLE = ("index", "write")
STAGES = ("read", "index", "label", "compare", "finish", "write")


class BuildStage(PipelineStep):
    """One stage of a build as a datatrove step. Documents pass through untouched; there are none."""

    type = "WildReward"

    def __init__(self, job: Job, stage: str) -> None:
        super().__init__()
        self.job, self.stage = job, stage
        self.name = stage

    def run(self, data: Iterable | None = None, rank: int = 0, world_size: int = 1) -> Iterator:
        """Do this rank's share of the stage. An exception fails the rank, and datatrove runs it again when asked to."""
        run_stage(self.job, self.stage, rank, world_size)
        yield from data or ()


def run_stage(job: Job, stage: str, rank: int = 0, world: int = 1) -> None:
    """Every `world`-th piece of one stage, in this process.

    Raises:
        UserError: another build is at work in the folder, or what the stage says.
    """
    with FolderLock(job.plan.folder, shared=True), Workers(1, job.plan) as workers:
        if stage == "read":
            stages.read(job, workers, rank, world)
        elif stage == "index":
            stages.index(job, workers)
        elif stage == "label":
            with job.plan.make_labeler():
                stages.label(job, workers, job.parts[rank::world])
        elif stage == "compare":
            stages.compare(job, workers, job.parts[rank::world])
        elif stage == "finish":
            stages.finish(job, workers, job.parts[rank::world])
        else:
            stages.write(job, workers, {})


@dataclass(frozen=True)
class StageRun:
    """An executor and the stage that it runs."""

    stage: str
    executor: Any


def run_stages(
    executor_class: type,
    build: dict[str, Any],
    *,
    tasks: int,
    logging_dir: str | Path,
    per_stage: dict[str, dict[str, Any]] | None = None,
    **options: Any,
) -> list[StageRun]:
    """Check the settings here, then run (or submit) one executor a stage, each after the one before.

    Args:
        executor_class: a datatrove executor class.
        build: the arguments of `build_dataset`, except `num_workers`.
        tasks: ranks of each stage; parts are dealt out among them.
        logging_dir: where datatrove keeps its logs and completion marks; in it one folder is made for each build (by its
            output and settings), and in that one for each stage.
        per_stage: options for one stage only, such as a GPU for "compare" or fewer tasks for "label", where every rank
            opens its own connections to the endpoint.
        options: for every executor.
    """
    job = prepare(**build)
    with FolderLock(job.plan.folder):
        claim(job)
    identity = json.dumps([str(job.output.resolve()), job.settings], sort_keys=True)
    logs = Path(logging_dir) / hashlib.sha256(identity.encode()).hexdigest()[:12]
    runs: list[StageRun] = []
    for stage in STAGES:
        given = {**options, **(per_stage or {}).get(stage, {})}
        count = 1 if stage in SINGLE else given.pop("tasks", tasks)
        executor = executor_class(
            pipeline=[BuildStage(job, stage)],
            tasks=count,
            logging_dir=str(logs / stage),
            depends=runs[-1].executor if runs else None,
            **given,
        )
        runs.append(StageRun(stage, executor))
    runs[-1].executor.run()
    return runs
