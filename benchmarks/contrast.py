"""What contrast pairs beside the levels are worth: ROC-AUC on users not trained on, broken answers, agreement with people.

    python benchmarks/contrast.py --dataset runs/sharegpt --output runs/contrast --pairs llmbar=llmbar.jsonl --pairs rmb=rmb.jsonl

One reward model for each weight of the pairs (0: the plain recipe), fold and seed. The users are dealt into folds as in
reward_quality.py; each model is measured

- on its fold: ROC-AUC of answers that users liked, across prompts;
- on answers of its fold that users liked: how often they score above broken ones (`evaluate --sanity`);
- on people's pairs: how often the chosen answer scores higher, by the difference to the plain recipe on the same pairs.

Each finished run leaves one file with its scores and is not done again; several processes may share the work (`--part`).
Intervals resample users, of people's pairs prompts; over several folds or seeds a pair counts with its mean over the models.
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, concatenate_datasets
from record import part_of
from reward_quality import RECIPE, compare, fold_of, lead, positive

from wildreward.commands import parse
from wildreward.common.contrast import KINDS
from wildreward.common.files import make_folder, read_json, write_json
from wildreward.common.hashing import text_sha256
from wildreward.common.tables import estimate_text, markdown_table
from wildreward.evaluation import sanity
from wildreward.evaluation.benchmarks.items import Item
from wildreward.evaluation.benchmarks.preference import Preference
from wildreward.evaluation.benchmarks.run import score_benchmark
from wildreward.evaluation.bootstrap import bootstrap, paired_bootstrap
from wildreward.evaluation.inputs import load_inputs
from wildreward.evaluation.settings import EvaluateConfig
from wildreward.evaluation.store import ScoreStore, score_groups
from wildreward.evaluation.wildfb import held_out
from wildreward.scoring.load import load_scorer
from wildreward.scoring.protocol import Scored
from wildreward.training.reward_command import CONFIGS, train_reward
from wildreward.training.reward_data import load_rows, owners

LEVELS = 4
Judged = list[tuple[str, str, str, float]]  # id and part of an item, its cluster, and what it earned


def run(
    train: Dataset, test: Dataset, human: Mapping[str, list[Item]], answers: int, flags: Sequence[str], path: Path
) -> None:
    """Train one model, measure it, and write its file."""
    started = time.monotonic()
    folder = path.with_name(path.stem.rpartition("-")[0])
    data = folder.with_name(f"{folder.name}.parquet")
    train.to_parquet(str(data))
    places = ["--dataset", str(data), "--output-dir", str(folder), "--report-to", "none"]
    summary = train_reward(*parse("train-reward", CONFIGS, [*flags, *places]))
    trained = time.monotonic()
    scorer = load_scorer(str(folder))
    store = ScoreStore(folder / "work" / "scores", scorer)  # what is scored is not scored again after a stop
    rows = held_out(test.to_list())
    broken = sanity.of_split(rows, LEVELS, 0, "the fold", answers)
    write_json(
        path,
        {
            "scores": [one.score for (one,) in score_groups(rows.groups, scorer, store)],
            "sanity": judged(broken, score_benchmark(sanity.Sanity("broken"), broken, scorer, store)),
            "human": {
                name: judged(items, score_benchmark(Preference(), items, scorer, store))
                for name, items in human.items()
            },
            "validation": summary["validation"],
            "steps": summary["steps"],
            "seconds": {"training": trained - started, "scoring": time.monotonic() - trained},
        },
    )


def judged(items: Sequence[Item], scored: Sequence[Sequence[Scored]]) -> Judged:
    """Of each pair whether the better answer scores higher; half for equal scores."""
    return [
        (item.id, item.subset, item.extra.get("owner", item.prompt_key), (1 + float(np.sign(a.score - b.score))) / 2)
        for item, (a, b) in zip(items, scored, strict=True)
    ]


def pooled(runs: Sequence[Judged]) -> tuple[list[str], list[str], np.ndarray]:
    """(part, cluster) of each item and its mean credit over the runs that judged it."""
    credits: dict[tuple[str, str, str], list[float]] = {}
    for one in runs:
        for name, part, cluster, credit in one:
            credits.setdefault((name, part, cluster), []).append(credit)
    return (
        [part for _, part, _ in credits],
        [cluster for _, _, cluster in credits],
        np.asarray([np.mean(values) for values in credits.values()]),
    )


def sanity_table(records: Mapping[float, Sequence[dict[str, Any]]]) -> tuple[str, dict[str, Any]]:
    """Share of broken answers that score below the real one, by kind."""
    found: dict[str, Any] = {}
    for weight, runs in records.items():
        parts, users, credits = pooled([one["sanity"] for one in runs])
        mask = {kind: np.asarray([part == kind for part in parts]) for kind in KINDS}
        means = {kind: partial(_mean, credits, mask[kind]) for kind in KINDS if mask[kind].any()}
        shares = {kind: len({user for user, own in zip(users, mask[kind], strict=True) if own}) for kind in means}
        found[str(weight)] = {kind: one.as_dict() for kind, one in bootstrap(means, users, share_of=shares).items()}
    rows = [[KINDS[kind], *(estimate_text(one[kind]) for one in found.values())] for kind in next(iter(found.values()))]
    return markdown_table(["the answer against", *(f"weight {weight}" for weight in found)], rows), found


def human_table(records: Mapping[float, Sequence[dict[str, Any]]]) -> tuple[str, dict[str, Any]]:
    """Agreement with people, and the paired difference to the first weight."""
    plain, found, rows = next(iter(records)), {}, []
    for name in records[plain][0]["human"]:
        of = {weight: pooled([one["human"][name] for one in runs]) for weight, runs in records.items()}
        _, prompts, _ = of[plain]
        for weight, (_, _, credits) in of.items():
            both = (credits, of[plain][2])
            own = bootstrap({"share": lambda rows, credits=credits: float(credits[rows].mean())}, prompts)["share"]
            ahead = paired_bootstrap(lambda rows, which, both=both: float(both[which][rows].mean()), prompts).as_dict()
            found.setdefault(name, {})[str(weight)] = {"agreement": own.as_dict(), "ahead": ahead}
            rows.append([name, str(len(prompts)), str(weight), estimate_text(own.as_dict())])
            rows[-1].append("" if weight == plain else lead(ahead))
    return markdown_table(["pairs", "n", "weight", "agreement", f"ahead of weight {plain} by"], rows), found


def _mean(credits: np.ndarray, mask: np.ndarray, rows: np.ndarray) -> float:
    chosen = credits[rows[mask[rows]]]
    return float(chosen.mean()) if chosen.size else float("nan")


def people_pairs(given: Sequence[str], subset: str | None, limit: int | None) -> dict[str, list[Item]]:
    """Decided pairs by the name of their set; of LLMBar those of one subset."""
    inputs = load_inputs(EvaluateConfig(pairs=list(given), limit=None, plots=False))
    found = {}
    for name, (benchmark, items) in inputs.pairs.items():
        items = [item for item in items if not item.extra["tie"]]
        if name == "llmbar" and subset:
            items = [item for item in items if item.subset == subset]
        keep = np.random.default_rng(0).permutation(len(items))[:limit]
        found[benchmark.name] = [items[k] for k in sorted(keep)]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, help="folder written by build-dataset, with a test split")
    parser.add_argument("--output", required=True)
    parser.add_argument("--pairs", action="append", default=[], metavar="NAME=FILE", help="people's pairs")
    parser.add_argument("--pairs-limit", type=int, default=None, help="of each set a seeded sample")
    parser.add_argument("--answers", type=int, default=500, help="liked answers of a fold set against broken ones")
    parser.add_argument("--llmbar-subset", default="Natural")
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--base-model", default=None, help="default: the recipe's")
    parser.add_argument("--weights", type=float, nargs="+", default=[0, 0.03, 0.1, 0.3, 1])
    parser.add_argument("--share", type=float, default=1.0, help="contrast pairs for each answer that users liked")
    parser.add_argument("--kinds", nargs="+", choices=tuple(KINDS), default=list(KINDS))
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--measure", type=int, default=None, help="stop after so many folds")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--part", default=None, help="such as 0/4: do only every fourth run; then once without it")
    arguments = parser.parse_args()
    rows = concatenate_datasets([load_rows(arguments.dataset, split) for split in ("train", "test")])
    users = owners(rows)
    fold = np.asarray([fold_of(user, arguments.folds) for user in users])
    human = people_pairs(arguments.pairs, arguments.llmbar_subset, arguments.pairs_limit) if arguments.pairs else {}
    folder, measured = make_folder(arguments.output), arguments.measure or arguments.folds
    part, parts = part_of(arguments.part, parser)
    jobs = [
        (number, seed, weight) for number in range(measured) for seed in arguments.seeds for weight in arguments.weights
    ]
    records: dict[float, list[dict[str, Any]]] = {weight: [] for weight in arguments.weights}
    scores = {str(weight): np.zeros((len(arguments.seeds), len(rows))) for weight in arguments.weights}
    for number, seed, weight in jobs[part::parts]:
        train, test = rows.select(np.flatnonzero(fold != number)), rows.select(np.flatnonzero(fold == number))
        flags = ["--seed", str(seed)]
        flags += ["--base-model", arguments.base_model] if arguments.base_model else []
        if weight:
            flags += ["--pair-weight", str(weight), "--contrast-share", str(arguments.share)]
            flags += ["--contrast-kinds", *arguments.kinds]
        identity = [train["id"][:], train["label"][:], arguments.recipe.read_text(), flags]
        measures = [arguments.answers, [[item.id for item in items] for items in human.values()]]
        name = f"weight-{weight:g}-{number}-{seed}-{digest(identity)}-{digest(measures)}"
        if not (path := folder / f"{name}.json").exists():
            run(train, test, human, arguments.answers, ["--config", str(arguments.recipe), *flags], path)
        found = read_json(path)
        records[weight].append(found)
        scores[str(weight)][arguments.seeds.index(seed), fold == number] = found["scores"]
        print(f"weight {weight:g}, fold {number}, seed {seed}: {path.name}", flush=True)
    if parts > 1:
        return
    done = np.flatnonzero(fold < measured)
    quality = compare(
        {weight: values[:, done] for weight, values in scores.items()},
        positive(rows.select(done)),
        fold[done],
        [users[row] for row in done],
    )
    areas = [
        [weight, estimate_text(one["roc_auc"]), "" if k == 0 else lead(quality_ahead(one))]
        for k, (weight, one) in enumerate(quality.items())
    ]
    shown = [markdown_table(["weight", "ROC-AUC", f"ahead of weight {arguments.weights[0]} by"], areas)]
    broken, by_kind = sanity_table(records)
    people, by_set = human_table(records)
    text = "\n\n".join([*shown, broken, people]) + "\n"
    write_json(folder / "contrast.json", {"roc_auc": quality, "sanity": by_kind, "human": by_set})
    (folder / "contrast.md").write_text(text)
    print(f"{len(done):,} rows in {measured} of {arguments.folds} folds, seeds {arguments.seeds}\n\n{text}")


def digest(value: Any) -> str:
    return text_sha256(json.dumps(value), 12)


def quality_ahead(one: Mapping[str, Any]) -> dict[str, float]:
    """By how much this one is ahead of the first, where `compare` says how much the first is ahead."""
    behind = one["first_ahead_by"]
    return {"difference": -behind["difference"], "low": -behind["high"], "high": -behind["low"]}


if __name__ == "__main__":
    main()
