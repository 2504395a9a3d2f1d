"""What better labels are worth to a reward model: trained on each dataset, judged by labels of readers, on users not trained on.

    python benchmarks/label_value.py --output runs/label-value --dataset classifier=runs/sharegpt

Each dataset is a folder that `build-dataset` made of the ShareGPT file. The follow-ups that readers have labelled
(`benchmarks/data/feedback_*.jsonl`) are built into one more, `readers`. A third of the users is held out by a hash;
the recipe, and logistic regression on words, learn from each dataset's rows of the other users, and all are scored on the
readers' rows of the held-out users by ROC-AUC of positive against negative. Intervals are bootstrapped over users,
differences on the same resamples. Finished runs are kept.
"""

import argparse
import hashlib
import json
from functools import partial
from pathlib import Path

import numpy as np
from datasets import Dataset, concatenate_datasets
from feedback_labeler import HELD_OUT, TRAIN
from reward_quality import by_recipe, by_words, compare, fold_of, kept, positive, table

from wildreward.common.files import make_folder, write_json
from wildreward.dataset_builder.build import build_dataset
from wildreward.packages import sharegpt_file
from wildreward.training.reward_data import load_rows, owners

FOLDS, OUT = 3, 0


def readers_dataset(folder: Path) -> str:
    """A dataset folder made of the readers' labels; where two readers differ, the one who was sure, else the later."""
    readings = [json.loads(line) for path in (TRAIN, HELD_OUT) for line in path.read_text("utf-8").splitlines()]
    levels = {row["id"]: row["level"] for row in sorted(readings, key=lambda row: row.get("sure", True))}
    labels = folder / "readers.jsonl"
    rows = [json.dumps({"id": name, "level": level}) for name, level in levels.items()]
    labels.write_text("\n".join(rows) + "\n", encoding="utf-8")
    options = {"labeler": "file", "labeler_options": {"labels": str(labels)}, "mining_window": 0}
    build_dataset(sharegpt_file(), folder / "readers", on_bad_input="skip", num_workers=2, **options)
    return str(folder / "readers")


def rows_of(folder: str) -> tuple[Dataset, np.ndarray, list[str]]:
    """All rows of a dataset, whether each is held out, and its user."""
    rows = concatenate_datasets([load_rows(folder, split) for split in ("train", "test")])
    users = owners(rows)
    return rows, np.asarray([fold_of(user, FOLDS) == OUT for user in users]), users


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", action="append", required=True, metavar="NAME=FOLDER", help="may be repeated")
    parser.add_argument("--output", required=True)
    parser.add_argument("--recipe", type=Path, default=Path(__file__).parents[1] / "recipes" / "quickstart-reward.yaml")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    arguments = parser.parse_args()
    folder = make_folder(arguments.output)
    folders = dict(given.split("=", 1) for given in arguments.dataset) | {"readers": readers_dataset(folder)}
    gold, held_out, users = rows_of(folders["readers"])
    test = gold.select(np.flatnonzero(held_out))
    users = [user for user, out in zip(users, held_out, strict=True) if out]
    print(f"judged by {len(test):,} rows of {len(set(users)):,} users, {positive(test).mean():.0%} positive")
    results = {}
    for contestant in ("recipe", "words"):
        scores = {}
        for name, source in folders.items():
            rows, out, _ = rows_of(source)
            train = rows.select(np.flatnonzero(~out))
            print(f"{contestant}: {name}, {len(train):,} rows, {positive(train).mean():.0%} positive", flush=True)
            runs = []
            for seed in arguments.seeds if contestant == "recipe" else [0]:
                settings = arguments.recipe.read_text() if contestant == "recipe" else ""
                identity = json.dumps([train["id"][:], train["label"][:], test["id"][:], settings, seed])
                path = folder / f"{contestant}-{name}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}.json"
                compute = partial(by_words, train, test)
                if contestant == "recipe":
                    compute = partial(by_recipe, arguments.recipe, train, folder / path.stem, seed, test)
                runs.append(kept(path, compute))
            scores[name] = np.asarray(runs)
        results[contestant] = compare(scores, positive(test), np.zeros(len(test), int), users)
        print(table(results[contestant]))
    write_json(folder / "label_value.json", results)


if __name__ == "__main__":
    main()
