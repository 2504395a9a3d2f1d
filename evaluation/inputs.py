"""What an evaluation reads, checked and in memory before a model is loaded: held-out splits, benchmarks, matplotlib."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wildreward.common.errors import UserError
from wildreward.common.names import public_name
from wildreward.common.rows import SUFFIXES, data_files, file_origins, read_rows
from wildreward.evaluation.benchmarks.items import Benchmark, Item, Source, load_items, parse_rows
from wildreward.evaluation.benchmarks.preference import Preference
from wildreward.evaluation.benchmarks.run import PRESETS, load_benchmark, sample, split_name
from wildreward.evaluation.plots import figure_class
from wildreward.evaluation.settings import EvaluateConfig
from wildreward.evaluation.wildfb import WHOLE, HeldOut, held_out, read_split, split_files


@dataclass(frozen=True)
class Inputs:
    """Everything to evaluate on, under the names that results.json gives it."""

    datasets: dict[str, HeldOut]
    benchmarks: dict[str, tuple[Benchmark, list[Item]]]
    pairs: dict[str, tuple[Preference, list[Item]]]


def load_inputs(config: EvaluateConfig) -> Inputs:
    """Read all datasets and benchmarks. What costs nothing to find wrong is looked at first.

    Raises:
        UserError: a name, path, split or row that does not fit; two of them would be reported under one name; figures
            are wanted and matplotlib is not installed.
    """
    named = [(file_prefix(public_name(dataset)), dataset) for dataset in config.dataset]
    for text in config.benchmark:
        name, path = split_name(text)
        named.append((name, text))
        if path is not None:
            data_files(Path(path))
    named += [(pairs_name(text)[0], text) for text in config.pairs]
    _refuse_equal_names(named)
    for place in map(Path, config.dataset):
        if place.is_dir():
            split_files(place, config.split)
        elif place.is_file() or place.name.endswith(SUFFIXES):
            data_files(place, "dataset")
    pairs = dict(_load_pairs(text, config) for text in config.pairs)
    loaded = [load_benchmark(text, config.limit, config.seed) for text in config.benchmark]
    splits = {}
    for dataset in config.dataset:
        rows, origins = read_split(dataset, config.split)
        split = WHOLE if Path(dataset).is_file() else config.split
        splits[public_name(dataset)] = held_out(rows, config.limit, config.seed, origins, split)
    if config.plots:  # takes seconds: after what is more often wrong
        figure_class()
    return Inputs(splits, {benchmark.name: (benchmark, items) for benchmark, items in loaded}, pairs)


def pairs_name(text: str) -> tuple[str, str]:
    """`PLACE` or `NAME=PLACE` → (name, place); by default the name is the place's, without the ending of a file."""
    name, separator, place = text.partition("=")
    if not separator or Path(text).exists():
        name, place = public_name(text), text
        suffix = next((suffix for suffix in sorted(SUFFIXES, key=len, reverse=True) if name.endswith(suffix)), "")
        name = name.removesuffix(suffix)
    if not place or not name:
        raise UserError(f"--pairs {text} names no data; expected FILE_OR_ID or NAME=FILE_OR_ID")
    return name, place


def _load_pairs(text: str, config: EvaluateConfig) -> tuple[str, tuple[Preference, list[Item]]]:
    """A set of pairs under its name: a file, a folder (of its split, where it has splits), or a split of a Hub dataset.

    Raises:
        UserError: there is nothing, or a row does not fit, naming file and line.
    """
    name, place = pairs_name(text)
    benchmark = PRESETS.get(name, Preference)()
    benchmark.name = file_prefix(name)
    path = Path(place)
    if not path.exists() and not place.endswith(SUFFIXES):
        benchmark.sources = (Source(place, config.split),)
        items, benchmark.read_from = load_items(benchmark)
    elif path.is_dir() and any(path.glob("data/*.parquet")):
        files = split_files(path, config.split)
        rows = ((benchmark.subset_of(file), where, row) for file in files for where, row in read_rows(file, "pairs"))
        items, benchmark.read_from = list(parse_rows(benchmark, rows)), file_origins(files, path)
    else:
        items, benchmark.read_from = load_items(benchmark, path)
    return name, (benchmark, sample(items, config.limit, config.seed))


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
