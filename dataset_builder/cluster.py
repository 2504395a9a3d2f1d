"""A build beyond one machine, through datatrove's executors (extra `scale`): Slurm, Ray, Hugging Face Jobs, or local.

    from datatrove.executor import SlurmPipelineExecutor
    from wildreward.dataset_builder.cluster import run_stages

    run_stages(
        SlurmPipelineExecutor,
        dict(source="allenai/WildChat-4.8M", output="/shared/wildfb", labeler="llm", labeler_options={...}),
        tasks=256, time="08:00:00", partition="cpu", logging_dir="/shared/logs",
    )

Each stage is one executor that depends on the one before; each of its tasks takes every n-th slice or shard. All tasks
see the same folder. What a killed task had finished is not done again. The rows are those of a local build.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from wildreward.common.errors import UserError
from wildreward.common.files import FolderLock
from wildreward.dataset_builder.build import bind_settings
from wildreward.dataset_builder.prepare import prepare
from wildreward.dataset_builder.settings import BuildSettings
from wildreward.dataset_builder.stages import STAGES, Build

try:
    from datatrove.pipeline.base import PipelineStep
except ImportError as error:
    raise UserError(
        "builds beyond one machine need datatrove; install it with: pip install 'wildreward[scale]'"
    ) from error


class BuildStage(PipelineStep):
    """One stage of a build as a datatrove step. Documents pass through untouched; there are none."""

    type = "WildReward"

    def __init__(self, build: Build, stage: str) -> None:
        super().__init__()
        self.build, self.stage = build, stage
        self.name = stage

    def run(self, data: Iterable | None = None, rank: int = 0, world_size: int = 1) -> Iterator:
        """Do this rank's share of the stage. An exception fails the rank, and datatrove runs it again when asked to."""
        run_stage(self.build, self.stage, rank, world_size)
        yield from data or ()


def run_stage(build: Build, stage: str, rank: int = 0, world: int = 1) -> None:
    """Every `world`-th piece of one stage, in this process.

    Raises:
        UserError: another build is at work in the folder, or what the stage says.
    """
    with FolderLock(build.work, shared=True), build.labeler:
        STAGES[stage].run(build, range(STAGES[stage].count(build))[rank::world])


def run_stages(
    executor_class: type,
    build: dict[str, Any],
    *,
    tasks: int,
    logging_dir: str | Path,
    per_stage: dict[str, dict[str, Any]] | None = None,
    **options: Any,
) -> list[Any]:
    """Check the settings here, then run (or submit) one executor a stage, each after the one before. Returns the executors.

    Args:
        executor_class: a datatrove executor class.
        build: the fields of `BuildSettings`.
        tasks: ranks of each stage; shards are dealt out among them.
        logging_dir: where datatrove keeps its logs and completion marks; in it one folder is made for each build (by its
            output and settings), and in that one for each stage.
        per_stage: options for one stage only, such as a GPU for "mine". A labeler that is paid has one rank, which holds the
            ledger.
        options: for every executor.
    """
    job = prepare(BuildSettings(**{**build, "source": str(build["source"]), "output": str(build["output"])}))
    with FolderLock(job.work):
        bind_settings(job)
    identity = json.dumps([str(job.output.resolve()), job.compared], sort_keys=True)
    logs = Path(logging_dir) / hashlib.sha256(identity.encode()).hexdigest()[:12]
    runs: list[Any] = []
    for name, stage in STAGES.items():
        given = {**options, **(per_stage or {}).get(name, {})}
        count = given.pop("tasks", tasks)
        executor = executor_class(
            pipeline=[BuildStage(job, name)],
            tasks=1 if stage.single or stage.whole(job) else count,
            logging_dir=str(logs / name),
            depends=runs[-1] if runs else None,
            **given,
        )
        runs.append(executor)
    runs[-1].run()
    return runs
