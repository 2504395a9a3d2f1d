"""Does the reward model learn more than simpler means? ROC-AUC on users not trained on: a recipe, a plain script, words.

    python benchmarks/reward_quality.py --dataset runs/sharegpt --output runs/quality [--by conversation]

- `recipe`: `wildreward train-reward` with `--recipe`; `against`: the same with another recipe, where one is given.
- `plain`: the same backbone in a loop of fifty lines, as such scripts are written: turns joined and cut on the right,
  batches padded, one logit a threshold, one epoch of AdamW.
- `vectors`: logistic regression on the backbone's own vectors, as they are: the mean over the tokens of its last layer.
- `words`: logistic regression on words and pairs of words (tf-idf) of query and response. It reads no order and no
  meaning, so what it reaches is what topic and wording give away.

One test split of a few hundred users is too small to tell them apart, so all rows are used: the users are dealt into
folds, each fold is scored by what was trained on the others, ROC-AUC is taken in each fold and averaged. Intervals are
bootstrapped over users, differences on the same resamples. `--by conversation` deals out conversations instead, which in
ShareGPT are parts of a chat: what that adds is what a split leaks that puts one user on both sides. Finished runs are
kept and not done again; several processes may share the work (`--part`).
"""

import argparse
import hashlib
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from datasets import Dataset, concatenate_datasets
from record import part_of
from transformers import AutoModelForSequenceClassification, AutoTokenizer, set_seed

from wildreward import RewardScorer
from wildreward.commands import parse
from wildreward.common.files import make_folder, read_json, write_json
from wildreward.evaluation.bootstrap import bootstrap, paired_bootstrap
from wildreward.evaluation.statistics import roc_auc
from wildreward.modeling_wildreward import WildRewardForSequenceClassification, ordinal_loss
from wildreward.modeling_wildreward.template import install_template
from wildreward.training.reward_command import CONFIGS, train_reward
from wildreward.training.reward_data import load_rows, owners, place_of

LEVELS = 4
FOLD_SEED = 4711  # not the recipe's own: its held-out users must come from all folds it trains on
RECIPE = Path(__file__).parents[1] / "recipes" / "quickstart-reward.yaml"
CONTESTANTS = ("recipe", "against", "plain", "vectors", "words")
STRENGTH = 1e-3  # C of the regression on vectors; chosen among powers of ten on these folds


def by_recipe(recipe: Path, train: Dataset, folder: Path, seed: int, test: Dataset) -> list[float]:
    """Scores of the test rows by the model that `train-reward` makes of a recipe."""
    dataset = folder.with_suffix(".parquet")
    train.to_parquet(str(dataset))
    flags = ["--config", str(recipe), "--dataset", str(dataset), "--output-dir", str(folder), "--seed", str(seed)]
    train_reward(*parse("train-reward", CONFIGS, [*flags, "--report-to", "none"]))
    return RewardScorer.from_pretrained(str(folder)).score(conversations(test))


def by_plain_script(
    train: Dataset, test: Dataset, seed: int, base_model: str, max_length: int, epochs: int
) -> list[float]:
    """Scores of the test rows by the backbone as a plain script trains it."""
    set_seed(seed)
    backbone, device = base_model, "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = AutoTokenizer.from_pretrained(backbone, trust_remote_code=False)
    model = AutoModelForSequenceClassification.from_pretrained(
        backbone,
        num_labels=LEVELS - 1,
        pad_token_id=tokenizer.pad_token_id,
        dtype=torch.float32,
        trust_remote_code=False,
    ).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, weight_decay=0.01)

    def logits(texts: Sequence[str]) -> torch.Tensor:
        batch = tokenizer(texts, truncation=True, max_length=max_length, padding=True, return_tensors="pt")
        return model(**batch.to(device)).logits

    texts, labels = joined(train), torch.tensor(train["label"][:], device=device)
    model.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(texts)).split(32):
            loss = ordinal_loss(logits([texts[row] for row in rows]), labels[rows.to(device)], "independent")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()
    texts = joined(test)
    with torch.inference_mode():
        parts = [1 + logits(texts[start : start + 32]).sigmoid().sum(1).cpu() for start in range(0, len(texts), 32)]
    return torch.cat(parts).tolist()


def by_vectors(train: Dataset, test: Dataset, base_model: str, max_length: int) -> list[float]:
    """Scores of the test rows by logistic regression on what the backbone says of a rendered input without any training."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = RewardScorer(
        WildRewardForSequenceClassification.from_backbone(base_model, pooling="mean", max_length=max_length),
        install_template(AutoTokenizer.from_pretrained(base_model, trust_remote_code=False)),
    )
    vectors = []  # what the head is given
    model.model.score.register_forward_pre_hook(lambda _, inputs: vectors.append(inputs[0].float().cpu()))

    def read(rows: Dataset) -> np.ndarray:
        vectors.clear()
        for conversation in conversations(rows):
            model.score([conversation])
        return torch.cat(vectors).numpy()

    regression = make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH, max_iter=1000))
    return regression.fit(read(train), positive(train)).decision_function(read(test)).tolist()


def by_words(train: Dataset, test: Dataset) -> list[float]:
    """Scores of the test rows by logistic regression on words."""
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    features = []
    for place in (0, 1):
        words = TfidfVectorizer(min_df=3, ngram_range=(1, 2), sublinear_tf=True)
        texts = [[row[place]["content"] for row in rows["messages"]] for rows in (train, test)]
        features.append((words.fit_transform(texts[0]), words.transform(texts[1])))
    known, asked = (hstack(columns).tocsr() for columns in zip(*features, strict=True))
    model = LogisticRegression(max_iter=1000).fit(known, positive(train))
    return model.decision_function(asked).tolist()


def conversations(rows: Dataset) -> list[list[dict[str, str]]]:
    return [[*(row["history"] or []), *row["messages"]] for row in rows]


def joined(rows: Dataset) -> list[str]:
    return ["\n".join(f"{m['role']}: {m['content']}" for m in messages) for messages in conversations(rows)]


def positive(rows: Dataset) -> np.ndarray:
    return np.asarray(rows["label"][:]) >= 3


def fold_of(user: str, folds: int) -> int:
    return int(place_of(user, seed=FOLD_SEED) * folds)


def kept(path: Path, compute: Callable[[], list[float]]) -> list[float]:
    """Scores computed once."""
    if not path.exists():
        write_json(path, compute())
    return read_json(path)


def compare(
    scores: dict[str, np.ndarray], truth: np.ndarray, fold: np.ndarray, users: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """For each contestant: ROC-AUC by fold, its mean with an interval over users, and by how much the first is ahead.

    Args:
        scores: (S, N) of each contestant, one row of scores a seed; ROC-AUC is the mean over seeds.
        truth, fold, users: (N,).
    """
    folds = range(int(fold.max()) + 1)

    def aucs(name: str, rows: np.ndarray) -> list[float]:
        parts = [rows[fold[rows] == number] for number in folds]
        return [float(np.mean([roc_auc(run[part], truth[part]) for run in scores[name]])) for part in parts]

    everything, first, results = np.arange(len(truth)), next(iter(scores)), {}
    for name in scores:

        def mean_auc(rows: np.ndarray, which: int, name: str = name) -> float:
            return float(np.mean(aucs((first, name)[which], rows)))

        results[name] = {
            "folds": aucs(name, everything),
            "seeds": [
                float(np.mean([roc_auc(run[fold == f], truth[fold == f]) for f in folds])) for run in scores[name]
            ],
            "roc_auc": bootstrap({"auc": partial(mean_auc, which=1)}, users)["auc"].as_dict(),
            "first_ahead_by": paired_bootstrap(mean_auc, users).as_dict(),
        }
    return results


def table(results: dict[str, dict[str, Any]]) -> str:
    first = next(iter(results))
    lines = [f"| | ROC-AUC | by fold | by seed | {first} is ahead by |", "|---|---|---|---|---|"]
    for name, found in results.items():
        auc = found["roc_auc"]
        folds, seeds = (", ".join(f"{value:.3f}" for value in found[of]) for of in ("folds", "seeds"))
        interval = f"{auc['value']:.3f} [{auc['low']:.3f}, {auc['high']:.3f}]"
        ahead = "" if name == first else lead(found["first_ahead_by"])
        lines.append(f"| {name} | {interval} | {folds} | {seeds} | {ahead} |")
    return "\n".join(lines) + "\n"


def lead(ahead: dict[str, float]) -> str:
    return f"{ahead['difference']:+.3f} [{ahead['low']:+.3f}, {ahead['high']:+.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, help="folder written by build-dataset, with a test split")
    parser.add_argument("--output", required=True)
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--against", type=Path, default=None, metavar="RECIPE", help="a second recipe")
    parser.add_argument("--by", choices=("user", "conversation"), default="user", help="what is dealt into folds")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--measure", type=int, default=None, help="stop after so many folds")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--plain-epochs", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, default=None, help="default: all that are given")
    parser.add_argument(
        "--part",
        default=None,
        help="such as 0/4: do only every fourth run; afterwards run once without it for the table",
    )
    arguments = parser.parse_args()
    only = arguments.only or [name for name in CONTESTANTS if name != "against" or arguments.against]
    if "against" in only and not arguments.against:
        parser.error("--only against needs the second recipe; give it with --against")
    rows = concatenate_datasets([load_rows(arguments.dataset, split) for split in ("train", "test")])
    users = owners(rows if arguments.by == "user" else rows.select_columns(["id", "conversation_id"]))
    fold = np.asarray([fold_of(user, arguments.folds) for user in users])
    folder, paths = make_folder(arguments.output), {"recipe": arguments.recipe, "against": arguments.against}
    recipes = {name: yaml.safe_load(path.read_text()) for name, path in paths.items() if path}
    plain = [recipes["recipe"].get(name) for name in ("base_model", "max_length")] + [arguments.plain_epochs]
    seeds = {name: arguments.seeds if name not in ("vectors", "words") else [0] for name in only}
    scores = {name: np.zeros((len(seeds[name]), len(rows))) for name in only}
    measured = arguments.measure or arguments.folds
    part, parts = part_of(arguments.part, parser)
    jobs = [(number, name, seed) for name in only for seed in seeds[name] for number in range(measured)]
    for number, name, seed in jobs[part::parts]:
        train, test = rows.select(np.flatnonzero(fold != number)), rows.select(np.flatnonzero(fold == number))
        kind = "recipe" if name in recipes else name  # a recipe's runs are the same on either side
        setting = {**recipes, "plain": plain, "vectors": [*plain[:2], STRENGTH]}.get(name)
        identity = json.dumps([train["id"][:], train["label"][:], kind, seed, setting], sort_keys=True)
        path = folder / f"{kind}-{number}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}.json"
        compute = {
            "recipe": partial(by_recipe, paths.get(name), train, folder / path.stem, seed, test),
            "plain": partial(by_plain_script, train, test, seed, *plain),
            "vectors": partial(by_vectors, train, test, *plain[:2]),
            "words": partial(by_words, train, test),
        }[kind]
        scores[name][seeds[name].index(seed), fold == number] = kept(path, compute)
    if parts > 1:
        return
    done = np.flatnonzero(fold < measured)
    rows, fold, users = rows.select(done), fold[done], [users[row] for row in done]
    results = compare({name: values[:, done] for name, values in scores.items()}, positive(rows), fold, users)
    write_json(folder / "quality.json", results)
    (folder / "quality.md").write_text(table(results))
    counted = f"{len(rows):,} rows of {len(set(users)):,} {arguments.by}s in {measured} of {arguments.folds} folds"
    print(f"{counted}\n{table(results)}")


if __name__ == "__main__":
    main()
