"""Whole builds for the tests, in this process and as a command."""

import subprocess
import sys

import pyarrow.parquet as pq

from wildreward.dataset_builder.build import build_dataset

OFF = {"mining_window": 0}


def build(log, output, **arguments):
    chats, labels = log
    return build_dataset(
        str(chats), output, labeler="file", labeler_options={"labels": str(labels)}, test_fraction=0.3, **arguments
    )


def rows_of(folder):
    """Everything that a reader sees: rows of both configurations and all levels, in order."""
    names = [f"{config}/{split}" for config in ("data", "unpaired_preference") for split in ("train", "test")]
    tables = {name: [pq.read_table(path).to_pylist() for path in sorted(folder.glob(f"{name}-*"))] for name in names}
    return {**tables, "levels": pq.read_table(folder / "work" / "levels.parquet").to_pylist()}


def command(log, output, *more):
    chats, labels = log
    program = [sys.executable, "-m", "wildreward", "build-dataset", "--labeler", "file", "--labels", str(labels)]
    return [*program, "--source", str(chats), "--output", str(output), "--mining_window", "0", *more]


def run(*arguments):
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=120)
