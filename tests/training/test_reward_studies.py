"""The studies: which rows each variant holds, and the command's files."""

import json
import sys
from collections import Counter
from itertools import pairwise

import pytest
from datasets import Dataset, DatasetDict

from tests.tiny import save_backbone
from tests.training.reward_tiny import toy_rows
from wildreward.commands import parse
from wildreward.errors import UserError
from wildreward.training.analyze_command import CONFIGS, analyze, main, table
from wildreward.training.reward_command import TrainRewardArguments
from wildreward.training.reward_data import hold_out_users
from wildreward.training.reward_model import build_model
from wildreward.training.studies import (
    check_apart,
    diversity_variants,
    size_variants,
    strategy_variants,
)


def rows(count=80):
    made = toy_rows(count)
    for number, row in enumerate(made):
        row["level"] = {1: 1, 2: 2, 3: 4, 4: 5}[row["label"]]
        row["label_source"] = ("explicit", "mined", "refusal", "explicit")[number % 4]
        if row["label_source"] == "refusal":
            row["level"], row["label"] = 5, 4  # as a build writes what the judge called justified
        row["user_id"] = f"u{min(number // 2, 20)}"  # one user has half of the rows
    return made


def test_strategy_leaves_out_the_mined_rows_or_undoes_the_judges_verdict():
    full, unmined, unvalidated = strategy_variants(Dataset.from_list(rows()), seed=0)
    assert (len(full.rows), len(unmined.rows), len(unvalidated.rows)) == (80, 60, 80)
    assert "mined" not in unmined.rows["label_source"][:]
    before = {row["id"]: row["label"] for row in full.rows}
    for row in unvalidated.rows:
        assert row["label"] == (2 if row["label_source"] == "refusal" else before[row["id"]])


def test_diversity_compares_equal_sizes():
    few, middle, many = diversity_variants(Dataset.from_list(rows()), seed=0)
    assert len(few.rows) == len(middle.rows) == len(many.rows) == 20
    assert few.x == 1 and few.x < middle.x < many.x == 20
    assert max(Counter(many.rows["user_id"][:]).values()) == 1


def test_smaller_sets_are_parts_of_larger_ones():
    variants = size_variants(Dataset.from_list(rows()), seed=0)
    ids = [set(variant.rows["id"][:]) for variant in variants]
    assert all(small <= large for small, large in pairwise(ids)) and len(ids[-1]) == 80


def test_users_are_held_out_before_variants_are_made():
    made = Dataset.from_list(rows(400))
    train, held = hold_out_users(made, 0.3, seed=1)
    assert len(train) + len(held) == 400 and not set(train["user_id"][:]) & set(held["user_id"][:])
    assert train.column_names == made.column_names
    assert len({len(variant.rows) for variant in diversity_variants(train, 0)}) == 1
    with pytest.raises(UserError, match="of 400 rows, 0 are held out"):
        hold_out_users(made, 0.3, seed=1, most=1)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    split = {"train": Dataset.from_list(rows(64)), "test": Dataset.from_list(rows(24))}
    for name, part in DatasetDict(split).items():
        (folder / "data" / "data").mkdir(parents=True, exist_ok=True)
        part.to_parquet(folder / "data" / "data" / f"{name}-00000-of-00001.parquet")
    save_backbone("bert", folder / "base")
    return folder


def test_the_command_writes_results_and_a_plot_and_goes_on_after_a_break(dataset, tmp_path, capsys):
    flags = ["--dataset", f"{dataset}/data", "--base-model", f"{dataset}/base", "--output-dir", f"{tmp_path}/out"]
    flags += ["--study", "strategy", "--seeds", "0", "1", "--max-steps", "2", "--disable-tqdm", "True"]
    with pytest.raises(
        UserError, match=r"^roc_auc of the test rows: \d+ positive and \d negative; needs 10 of each; choose"
    ):
        main(*parse("analyze", CONFIGS, flags))
    flags += ["--plot-metric", "mae"]
    main(*parse("analyze", CONFIGS, flags))
    assert "without mining" in capsys.readouterr().out
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    full = results["variants"]["full"]
    assert list(results["variants"]) == ["full", "without-mining", "without-refusal-validation"]
    assert len(full["runs"]) == 2 and results["test_rows"] == 24
    assert full["mae"]["mean"] == pytest.approx(sum(run["mae"] for run in full["runs"]) / 2)
    assert (tmp_path / "out" / "strategy.png").stat().st_size > 1000
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "runs").iterdir()}
    assert len(stamps) == 6
    next(iter(stamps)).unlink()
    again = analyze(*parse("analyze", CONFIGS, flags))
    assert again == results
    assert sum(path.stat().st_mtime_ns != stamp for path, stamp in stamps.items()) == 1
    assert table(again).count("±") >= 6
    (tmp_path / "out" / "strategy.png").unlink()
    assert analyze(*parse("analyze", CONFIGS, [*flags, "--plot-metric", "qwk"])) == results  # only draws
    assert (tmp_path / "out" / "strategy.png").exists()


def refusal(dataset, tmp_path, *more, processes=1):
    flags = ["--dataset", f"{dataset}/data", "--base-model", f"{dataset}/base", "--output-dir", f"{tmp_path}/out"]
    arguments, config = parse("analyze", CONFIGS, [*flags, *more])
    if processes > 1:
        config.__class__ = type("SeveralProcesses", (type(config),), {"world_size": processes})
    with pytest.raises(UserError) as caught:
        analyze(arguments, config)
    assert not list(tmp_path.glob("out/runs/*"))
    return str(caught.value)


def test_what_would_fail_after_training_is_refused_before(dataset, tmp_path, monkeypatch):
    assert "plot_metric is 'auc'; expected one of loss, mae" in refusal(dataset, tmp_path, "--plot-metric", "auc")
    assert "remove: estimate, streaming" in refusal(dataset, tmp_path, "--estimate", "2", "--streaming", "True")
    assert "remove: seed, eval_strategy" in refusal(dataset, tmp_path, "--seed", "1", "--eval-strategy", "no")
    assert "push_to_hub (run wildreward push" in refusal(dataset, tmp_path, "--push-to-hub", "True")
    assert "analyze runs in one process, and was started in 2" in refusal(dataset, tmp_path, processes=2)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert "pip install 'wildreward[plots]'" in refusal(dataset, tmp_path)


def test_variants_that_coincide_are_refused():
    single = Dataset.from_list([row | {"user_id": f"u{number}"} for number, row in enumerate(toy_rows(40))])
    with pytest.raises(UserError, match=r"variants concentrated \(10 users\) and mixed \(10 users\) do not differ"):
        check_apart(diversity_variants(single, seed=0))
    explicit = Dataset.from_list([row | {"label_source": "explicit"} for row in rows()])
    with pytest.raises(UserError, match=r"variants full \(full\) and without-mining .* do not differ, with 80 rows"):
        check_apart(strategy_variants(explicit, seed=0))
    for variants_of in (strategy_variants, diversity_variants, size_variants):
        made = variants_of(Dataset.from_list(rows(160)), 0)
        check_apart(made)
        assert len({variant.key for variant in made}) == len(made)


def test_variants_without_held_out_users_are_refused_before_training(dataset, tmp_path):
    message = refusal(dataset, tmp_path, "--validation-share", "0.001", "--plot-metric", "mae")
    assert "of 64 rows, 0 are held out (share 0.001" in message
    again = refusal(dataset, tmp_path, "--validation-share", "0.0005", "--plot-metric", "mae")
    assert "are held out" in again  # the folder is not claimed


def test_a_single_file_has_no_test_split(dataset, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows(16)))
    assert "there is no split 'test'" in refusal(dataset, tmp_path, "--dataset", str(path))


def test_a_dataset_without_sources_is_refused(dataset, tmp_path):
    path = tmp_path / "plain.jsonl"
    path.write_text("".join(json.dumps({"text": "a b", "label": 1}) + "\n" for _ in range(4)))
    flags = ["--dataset", str(path), "--base-model", f"{dataset}/base", "--output-dir", f"{tmp_path}/out"]
    with pytest.raises(UserError, match="no column label_source; the strategy study needs"):
        analyze(*parse("analyze", CONFIGS, [*flags, "--study", "strategy"]))


def test_frozen_layers_stay_as_they_were(dataset, tmp_path):
    from tests.training.reward_tiny import config

    arguments = TrainRewardArguments(dataset="", base_model=f"{dataset}/base", frozen_layers=1)
    model = build_model(arguments, config(tmp_path))
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert not any("embeddings" in name or "layer.0." in name for name in trained)
    assert any("layer.1." in name for name in trained) and {"score.weight", "score.bias"} <= trained
    with pytest.raises(UserError, match="frozen_layers is 3, but the backbone has 2 layers"):
        build_model(TrainRewardArguments(dataset="", base_model=f"{dataset}/base", frozen_layers=3), config(tmp_path))
