"""The scores of every item as a dataset folder, `scores/` beside results.json: every total can be computed from it again.

It holds ids, labels and numbers, no chats, so that it can be published: `wildreward push --path OUTPUT/scores`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from wildreward.common.cards import merge_card, section
from wildreward.common.files import atomic_path
from wildreward.evaluation.benchmarks.items import Benchmark, Item
from wildreward.evaluation.judge import Judged
from wildreward.evaluation.wildfb import HeldOut
from wildreward.scoring.protocol import Scored

_NUMBERS = pa.list_(pa.float64())
BENCHMARK_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("subset", pa.string()),
        ("cluster", pa.string()),
        ("scores", _NUMBERS),
        ("level_probs", pa.list_(_NUMBERS)),
        ("num_correct", pa.int64()),
        ("pairs", pa.list_(pa.list_(pa.int64()))),
        ("credits", _NUMBERS),
        ("tie", pa.bool_()),
        ("margin", pa.float64()),
    ]
)
JUDGED_SCHEMA = pa.schema(
    [
        *(field for field in BENCHMARK_SCHEMA if field.name not in ("scores", "level_probs")),
        ("preferences", _NUMBERS),
        ("verdicts", pa.list_(pa.list_(pa.string()))),
    ]
)
DATASET_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("conversation_id", pa.string()),
        ("user", pa.int64()),
        ("language", pa.string()),
        ("label", pa.int64()),
        ("score", pa.float64()),
        ("level_probs", _NUMBERS),
        ("length", pa.int64()),
    ]
)
ABOUT = """# Scores of {model}

What `wildreward evaluate` measured, item by item; `load_dataset(…, NAME, split="test")` reads a set.

{names}

Of benchmarks and pairs: `scores` of the candidates, the first `num_correct` of them right; `pairs`, positions of a better and a
worse one; `credits`, what the published rule gives the item; `cluster`, items that are resampled together. Of held-out splits:
`label` and `score`, one answer a row. `level_probs` where the model has levels. Of a judge instead of scores: `preferences`, for each
pair 1 for the better answer, 0 for the worse one, 0.5 for none, null where it failed; `verdicts`, what it said when the better one was
shown first, and when it was shown second. Texts are not repeated here: `id` is the source's.
"""


def write_benchmark(
    folder: Path, name: str, benchmark: Benchmark, items: Sequence[Item], scored: Sequence[Sequence[Scored]]
) -> None:
    """One row an item of a benchmark or of a set of pairs."""
    rows = [
        _of_item(benchmark, item, benchmark.credit(item, [one.score for one in scores]))
        | {
            "scores": [one.score for one in scores],
            "level_probs": None if scores[0].level_probs is None else [list(one.level_probs or ()) for one in scores],
        }
        for item, scores in zip(items, scored, strict=True)
    ]
    _write(folder, name, rows, BENCHMARK_SCHEMA)


def write_judged(
    folder: Path, name: str, benchmark: Benchmark, items: Sequence[Item], judged: Sequence[Sequence[Judged]]
) -> None:
    """The same of a judge's preferences."""
    rows = [
        _of_item(benchmark, item, benchmark.judged_credit(item, [one.won for one in pairs]))
        | {
            "preferences": [None if one.failed else one.won for one in pairs],
            "verdicts": [[one.better_first.verdict, one.better_second.verdict] for one in pairs],
        }
        for item, pairs in zip(items, judged, strict=True)
    ]
    _write(folder, name, rows, JUDGED_SCHEMA)


def _of_item(benchmark: Benchmark, item: Item, credits: Sequence[float]) -> dict[str, Any]:
    return {
        "id": item.id,
        "subset": item.subset,
        "cluster": benchmark.cluster(item),
        "num_correct": item.num_correct,
        "pairs": [list(pair) for pair in benchmark.pairs(item)],
        "credits": list(credits),
        "tie": item.extra.get("tie"),
        "margin": item.extra.get("margin"),
    }


def write_dataset(folder: Path, name: str, data: HeldOut, scored: Sequence[Scored]) -> None:
    """One row an answer of a held-out split."""
    columns = (data.groups, data.conversations, data.users, data.languages, data.labels, scored, data.lengths)
    numbers = {user: number for number, user in enumerate(dict.fromkeys(data.users))}  # who they are stays here
    rows = [
        {
            "id": group.id,
            "conversation_id": conversation,
            "user": numbers[user],
            "language": language,
            "label": int(label),
            "score": one.score,
            "level_probs": None if one.level_probs is None else list(one.level_probs),
            "length": int(length),
        }
        for group, conversation, user, language, label, one, length in zip(*columns, strict=True)
    ]
    _write(folder, name, rows, DATASET_SCHEMA)


def _file(folder: Path, name: str) -> Path:
    return folder / "scores" / "data" / f"{name}-test.parquet"


def _write(folder: Path, name: str, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    with atomic_path(_file(folder, name)) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema), temporary)


def set_names(results: Mapping[str, Any]) -> dict[str, str]:
    """What every set in results.json is called in file names → what it is called there."""
    datasets = {name.replace("/", "_"): name for name in results["datasets"]}
    pairs = {f"pairs_{name.replace('/', '_')}": f"{name} (pairs)" for name in results["pairs"]}
    sanity = {sanity_prefix(name): f"{name}: real against broken answers" for name in results["sanity"]}
    return datasets | {name: name for name in results["benchmarks"]} | pairs | sanity


def sanity_prefix(name: str) -> str:
    """What the real and broken answers of a dataset or a set of pairs are called in file names."""
    return f"sanity_{name.removesuffix(' (pairs)').replace('/', '_')}" + ("_pairs" if name.endswith(" (pairs)") else "")


def write_card(folder: Path, results: Mapping[str, Any]) -> None:
    """The folder's card, with one configuration a set; files of sets that results.json does not hold go."""
    from datasets import Features
    from huggingface_hub.utils import yaml_dump

    names = set_names(results)
    names = {name: title for name, title in names.items() if _file(folder, name).exists()}
    for path in (folder / "scores" / "data").glob("*-test.parquet"):
        if path.name.removesuffix("-test.parquet") not in names:
            path.unlink()
    infos = []
    for name in names:
        features = Features.from_arrow_schema(pq.read_schema(_file(folder, name)))
        infos.append({"config_name": name, "features": features._to_yaml_list()})
    metadata = {
        "license": "unknown",
        "pretty_name": f"Scores of {results['model']['name']}",
        "tags": ["wildreward", "reward-model", "evaluation"],
        "configs": [
            {"config_name": name, "data_files": [{"split": "test", "path": f"data/{name}-test.parquet"}]}
            for name in names
        ],
        "dataset_info": infos,
    }
    listed = "\n".join(f"- `{name}`: {title}" for name, title in names.items())
    text = f"---\n{yaml_dump(metadata, sort_keys=False)}---\n\n" + section(
        ABOUT.format(model=results["model"]["name"], names=listed)
    )
    card = folder / "scores" / "README.md"
    old = card.read_text(encoding="utf-8") if card.exists() else ""
    with atomic_path(card) as temporary:
        temporary.write_text(merge_card(old, text) if old else text + "\n", encoding="utf-8")
