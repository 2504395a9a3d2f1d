"""What an evaluation reads, checked and in memory before a model is loaded: held-out splits, benchmarks, matplotlib."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wildreward.errors import UserError
from wildreward.evaluation.benchmarks.items import SUFFIXES, Benchmark, Item, data_files
from wildreward.evaluation.benchmarks.run import load_benchmark, split_name
from wildreward.evaluation.command import Options
from wildreward.evaluation.plots import figure_class
from wildreward.evaluation.wildfb import WHOLE, HeldOut, held_out, read_split, split_files
from wildreward.names import public_name


@dataclass(frozen=True)
class Inputs:
    """Everything to evaluate on, under the names that results.json gives it."""

    datasets: dict[str, HeldOut]
    benchmarks: dict[str, tuple[Benchmark, list[Item]]]


def load_inputs(datasets: Sequence[str], benchmarks: Sequence[str], options: Options) -> Inputs:
    """Read all datasets and benchmarks. What costs nothing to find wrong is looked at first.

    Args:
        datasets: feedback datasets: folders, ids or single files.
        benchmarks: `NAME` or `NAME=PATH`.
        options: split, limit and seed; whether figures are wanted.

    Raises:
        UserError: a name, path, split or row that does not fit; two of them would be reported under one name; figures
            are wanted and matplotlib is not installed.
    """
    if options.plots:
        figure_class()
    named = [(file_prefix(public_name(dataset)), dataset) for dataset in datasets]
    for text in benchmarks:
        name, path = split_name(text)
        named.append((name, text))
        if path is not None:
            data_files(Path(path))
    _refuse_equal_names(named)
    for place in map(Path, datasets):
        if place.is_dir():
            split_files(place, options.split)
        elif place.is_file() or place.suffix in SUFFIXES:
            data_files(place, "dataset")
    loaded = [load_benchmark(text, options.limit, options.seed) for text in benchmarks]
    splits = {}
    for dataset in datasets:
        rows, origins = read_split(dataset, options.split)
        split = WHOLE if Path(dataset).is_file() else options.split
        splits[public_name(dataset)] = held_out(rows, options.limit, options.seed, origins, split)
    return Inputs(splits, {benchmark.name: (benchmark, items) for benchmark, items in loaded})


def file_prefix(name: str) -> str:
    """A dataset's or benchmark's name as the beginning of a file name."""
    return name.replace("/", "_")


def _refuse_equal_names(named: Sequence[tuple[str, str]]) -> None:
    seen: dict[str, str] = {}
    for name, given in named:
        if name in seen:
            raise UserError(
                f"{seen[name]} and {given} would both be reported as {name}; expected different names (of a folder its "
                "last part counts): rename one, or evaluate them into different --output folders"
            )
        seen[name] = given
