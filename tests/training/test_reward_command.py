"""`train-reward`: the folder it writes, reruns, refusals."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from datasets import Dataset
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tests.tiny import chat, joining_tokenizer, save_backbone
from tests.training.reward_tiny import config, toy_dataset, toy_rows
from wildreward.commands import parse
from wildreward.common.errors import UserError
from wildreward.common.files import FolderLock
from wildreward.modeling_wildreward.template import response_mark
from wildreward.training.reward_arguments import TrainRewardArguments
from wildreward.training.reward_command import CONFIGS, main, run_settings, train_reward
from wildreward.training.reward_config import OrdinalRewardConfig
from wildreward.training.reward_data import place_of
from wildreward.training.reward_stream import split_stream


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A dataset file, a backbone folder, and a reward model trained from them by the command."""
    folder = tmp_path_factory.mktemp("reward")
    toy_dataset(96).to_parquet(folder / "rows.parquet")
    save_backbone("bert", folder / "base")
    arguments = ["--dataset", f"{folder}/rows.parquet", "--base-model", f"{folder}/base"]
    arguments += ["--output-dir", f"{folder}/out", "--validation-share", "0.25", "--learning-rate", "1e-3"]
    arguments += ["--num-train-epochs", "2", "--per-device-train-batch-size", "8", "--disable-tqdm", "True"]
    arguments += ["--pooling", "sections"]
    main(*parse("train-reward", CONFIGS, arguments))
    return folder, arguments


def test_the_folder_is_complete_and_loads_anywhere(made):
    folder = made[0] / "out"
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "model.safetensors", "modeling_wildreward.py", "training_summary.json", "README.md"} <= names
    settings = json.loads((folder / "config.json").read_text())
    assert settings["base_model"] == "base" and settings["auto_map"] and len(settings["temperatures"]) == 3
    assert not any(name.endswith((".bin", ".pt")) for name in names)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert settings["pooling"] == "sections" and settings["response_mark"] == response_mark(tokenizer)
    assert "Rate how well" in tokenizer.apply_chat_template(chat("a", "b"), tokenize=False)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    assert model.config.num_labels == 1


def test_the_summary_tells_what_was_done_and_no_machine_path(made):
    text = (made[0] / "out" / "training_summary.json").read_text()
    summary = json.loads(text)
    assert str(made[0]) not in text
    assert summary["dataset"] == "rows.parquet" and summary["arguments"]["learning_rate"] == 1e-3
    assert summary["rows"]["train"] + summary["rows"]["validation"] == 96
    assert 0 < summary["rows"]["validation"] < 60
    assert {"loss", "mae", "qwk", "roc_auc", "accuracy", "ece"} <= summary["validation"].keys()
    assert summary["versions"].keys() == {"wildreward", "torch", "transformers", "datasets"}


def test_a_finished_run_is_left_alone_and_other_settings_are_refused(made):
    folder, arguments = made
    stamp = (folder / "out" / "model.safetensors").stat().st_mtime_ns
    main(*parse("train-reward", CONFIGS, arguments))
    assert (folder / "out" / "model.safetensors").stat().st_mtime_ns == stamp
    with pytest.raises(UserError, match=r"learning_rate was 0\.001, now 0\.002"):
        main(*parse("train-reward", CONFIGS, ["2e-3" if flag == "1e-3" else flag for flag in arguments]))


def test_a_second_run_in_the_same_folder_is_refused(made):
    with FolderLock(made[0] / "out" / "work"), pytest.raises(UserError, match="another run is writing"):
        main(*parse("train-reward", CONFIGS, made[1]))


def test_a_run_without_its_final_files_goes_on_from_its_checkpoints_to_the_same_weights(made):
    folder = made[0] / "out"
    before = load_file(folder / "model.safetensors")
    (folder / "training_summary.json").unlink()
    (folder / "model.safetensors").unlink()
    main(*parse("train-reward", CONFIGS, made[1]))
    after = load_file(folder / "model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_adapters_end_in_an_ordinary_model_folder(made, tmp_path):
    arguments = TrainRewardArguments(
        dataset=str(made[0] / "rows.parquet"), base_model=str(made[0] / "base"), lora_rank=2, validation_share=0.25
    )
    settings = config(tmp_path, eval_strategy="steps", save_strategy="steps", eval_steps=4, save_steps=4)
    summary = train_reward(arguments, settings)
    assert summary["best_step"] in (4, 8) and summary["arguments"]["lora_rank"] == 2
    names = {path.name for path in tmp_path.iterdir()}
    assert "model.safetensors" in names and not any("adapter" in name for name in names)
    assert not any("lora" in name for name in load_file(tmp_path / "model.safetensors"))


def test_streamed_training_holds_out_users_too(made, tmp_path):
    rows = [row | {"label": None} if number % 8 == 0 else row for number, row in enumerate(toy_rows(96))]
    Dataset.from_list(rows).to_parquet(tmp_path / "rows.parquet")
    arguments = TrainRewardArguments(
        dataset=str(tmp_path / "rows.parquet"), base_model=str(made[0] / "base"), streaming=True, validation_share=0.25
    )
    settings = config(tmp_path, max_steps=4, eval_strategy="steps", save_strategy="steps", eval_steps=2, save_steps=2)
    summary = train_reward(arguments, settings)
    assert summary["steps"] == 4 and summary["rows"]["train"] is None
    held = [row for row in rows if place_of(f"user:{row['user_id']}", seed=0) < 0.25]
    unlabelled = sum(row["label"] is None for row in held)
    assert unlabelled > 0 and summary["rows"]["left_out"] == {"no label, held out": unlabelled}
    assert summary["rows"]["validation"] == len(held) - unlabelled


def test_users_beyond_the_most_rows_held_out_of_a_stream_are_trained_on(made, tmp_path):
    rows = toy_rows(96)
    Dataset.from_list(rows).to_parquet(tmp_path / "rows.parquet")
    arguments = TrainRewardArguments(
        dataset=str(tmp_path / "rows.parquet"),
        base_model="",
        streaming=True,
        validation_share=0.5,
        max_validation_rows=5,
    )
    train, held, _ = split_stream(arguments, config(tmp_path / "a", max_steps=2))
    users = {row["user_id"] for row in held}
    assert len(held) == 5
    assert [row["id"] for row in train] == [row["id"] for row in rows if row["user_id"] not in users]


def test_a_stream_without_ids_or_users_can_be_trained_on_and_one_without_labels_is_named(made, tmp_path):
    plain = [{name: row[name] for name in ("messages", "label")} for row in toy_rows(96)]
    (tmp_path / "parts" / "data").mkdir(parents=True)
    for part in range(4):  # which a shuffled stream reads in another order
        rows = Dataset.from_list(plain[part * 24 :][:24])
        rows.to_parquet(tmp_path / "parts" / "data" / f"train-0000{part}-of-00004.parquet")
    Dataset.from_list([{"messages": row["messages"]} for row in plain]).to_parquet(tmp_path / "bare.parquet")
    arguments = TrainRewardArguments(
        dataset=str(tmp_path / "parts"), base_model=str(made[0] / "base"), streaming=True, validation_share=0.25
    )
    train, held, _ = split_stream(arguments, config(tmp_path / "a", max_steps=2))
    texts = [{row["messages"][1]["content"] for row in part} for part in (train.shuffle(seed=3, buffer_size=50), held)]
    assert 0 < len(texts[1]) < 48 and not texts[0] & texts[1] and len(texts[0] | texts[1]) == 96
    assert train_reward(arguments, config(tmp_path / "a", max_steps=2))["rows"]["validation"] == len(held)
    bare = replace(arguments, dataset=str(tmp_path / "bare.parquet"))
    with pytest.raises(UserError, match="the dataset has the columns messages; expected `label`"):
        train_reward(bare, config(tmp_path / "b", max_steps=2))


def test_a_folder_that_was_moved_before_its_end_finds_its_best_checkpoint(made, tmp_path):
    arguments = TrainRewardArguments(
        dataset=str(made[0] / "rows.parquet"), base_model=str(made[0] / "base"), validation_share=0.3
    )
    steps = {"eval_strategy": "steps", "eval_steps": 4, "save_strategy": "steps", "save_steps": 4, "max_steps": 8}
    steps |= {"metric_for_best_model": "loss", "greater_is_better": True}  # so that the first one is kept
    summary = train_reward(arguments, config(tmp_path / "out", **steps))
    assert summary["best_step"] == 4 < summary["steps"] == 8
    expected = load_file(tmp_path / "out" / "model.safetensors")
    for name in ("training_summary.json", "model.safetensors"):  # as a kill before the end leaves it
        (tmp_path / "out" / name).unlink()
    (tmp_path / "out").rename(tmp_path / "moved")
    assert train_reward(arguments, config(tmp_path / "moved", **steps))["best_step"] == 4
    found = load_file(tmp_path / "moved" / "model.safetensors")
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_streaming_is_refused_with_what_needs_the_whole_dataset_before_anything_is_loaded(tmp_path):
    arguments = TrainRewardArguments(dataset="x", base_model="y", streaming=True)
    with pytest.raises(UserError, match="not possible with a streamed dataset: level_weighting"):
        train_reward(arguments, config(tmp_path / "out", max_steps=4, level_weighting="sqrt"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "flags",
    [
        "--shuffle-buffer 5",
        '--lr-scheduler-kwargs {"min_lr":0.1}',
        "--optim-args a=1",
        "--neftune-noise-alpha 5",
        "--eval-steps 0.125",
        "--save-steps 0.5",
        "--load-best-model-at-end False",
        "--greater-is-better False",
    ],
)
def test_whatever_changes_the_result_is_a_setting(tmp_path, flags):
    given = ["--dataset", "x", "--base-model", "y", "--output-dir", str(tmp_path)]
    before, after = (run_settings(*parse("train-reward", CONFIGS, [*given, *more.split()])) for more in ("", flags))
    name = flags.split()[0].removeprefix("--").replace("-", "_")
    assert [key for key in after if after[key] != before[key]] == [name]


def test_how_often_checkpoints_are_written_is_free_where_none_is_chosen(tmp_path):
    given = ["--dataset", "x", "--base-model", "y", "--output-dir", str(tmp_path), "--load-best-model-at-end", "False"]
    often, rarely = (
        run_settings(*parse("train-reward", CONFIGS, [*given, "--save-steps", steps])) for steps in ("0.1", "0.5")
    )
    assert often == rarely


def test_errors_are_one_line(tmp_path, made):
    missing = TrainRewardArguments(dataset=str(tmp_path / "none"), base_model=str(made[0] / "base"))
    with pytest.raises(UserError, match="cannot load split 'train'"):
        train_reward(missing, config(tmp_path / "a"))
    no_model = TrainRewardArguments(dataset=str(made[0] / "rows.parquet"), base_model=str(tmp_path))
    with pytest.raises((UserError, ValueError, OSError)):
        train_reward(no_model, config(tmp_path / "b"))
    nobody_left = TrainRewardArguments(
        dataset=str(made[0] / "rows.parquet"), base_model=str(made[0] / "base"), validation_share=1e-9
    )
    with pytest.raises(UserError, match=r"of 96 rows, 0 are held out \(share 1e-09, at most 2000 rows"):
        train_reward(nobody_left, config(tmp_path / "c"))


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("learning_rate", 0.0, "more than 0"),
        ("num_train_epochs", 0.0, "more than 0"),
        ("max_steps", 0, "at least 1"),
        ("label_smoothing_factor", -0.5, "at least 0"),
        ("dataset_num_proc", 0, "at least 1"),
    ],
)
def test_numbers_that_train_nothing_or_nonsense_are_refused(tmp_path, name, value, expected):
    with pytest.raises(UserError, match=rf"--{name} is {value}; expected {expected}"):
        OrdinalRewardConfig(str(tmp_path), **{name: value})


@pytest.mark.parametrize("name", ["validation_share", "lora_alpha", "lora_dropout"])
def test_shares_and_adapters_out_of_range_are_refused(name):
    with pytest.raises(UserError, match=rf"--{name} is -1; expected"):
        TrainRewardArguments(dataset="x", base_model="y", **{name: -1})


def test_a_run_is_not_gone_on_with_under_another_engine(made, tmp_path, monkeypatch):
    """Its checkpoints hold the optimizer's state in another form: the schedule and the moments would begin anew."""
    what = TrainRewardArguments(dataset=str(made[0] / "rows.parquet"), base_model=str(made[0] / "base"))
    asked = config(tmp_path / "out", max_steps=1)
    train_reward(what, asked)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UserError, match="engine was 'none', now 'fsdp'"):
        train_reward(what, asked)


def test_weights_in_half_precision_are_refused_under_fsdp_without_mixed_precision(tmp_path, monkeypatch):
    what = TrainRewardArguments(dataset="x", base_model="y", dtype="bfloat16")
    asked = config(tmp_path / "out", bf16=False)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UserError, match="dtype is bfloat16 under FSDP without mixed precision"):
        train_reward(what, asked)
    assert not (tmp_path / "out").exists()


def test_a_run_without_an_output_folder_is_refused(made):
    what = TrainRewardArguments(dataset=str(made[0] / "rows.parquet"), base_model=str(made[0] / "base"))
    with pytest.raises(UserError, match="there is no output_dir; name the folder to write with --output-dir"):
        train_reward(what, OrdinalRewardConfig())


def test_a_refused_run_does_not_claim_its_folder(tmp_path, made):
    def train(model, **named):
        what = TrainRewardArguments(dataset=str(made[0] / "rows.parquet"), base_model=str(model), **named)
        return train_reward(what, config(tmp_path / "out", max_steps=1))

    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"cannot load the backbone '.*empty'"):
        train(tmp_path / "empty")
    with pytest.raises(UserError, match=r"row .* has label 4; expected a whole number from 1 to 3"):
        train(made[0] / "base", num_levels=3)
    assert train(made[0] / "base", validation_share=0.25)["steps"] == 1
    with pytest.raises(UserError, match=r"validation_share was 0\.25, now 0\.5"):
        train(made[0] / "base", validation_share=0.5)


@pytest.mark.parametrize(
    "flags",
    [
        "--per-device-eval-batch-size 2",
        "--eval-accumulation-steps 3",
        "--train-sampling-strategy sequential",
        "--dataloader-persistent-workers True",
        "--use-liger-kernel True",
        "--accelerator-config x.json",
    ],
)
def test_options_without_effect_are_refused_with_those_that_have_one(tmp_path, flags):
    name = flags.split()[0].removeprefix("--").replace("-", "_")
    given = ["--dataset", "x", "--base-model", "y", "--output-dir", str(tmp_path), *flags.split()]
    with pytest.raises(
        UserError,
        match=rf"without effect on reward training, remove: {name}; see rows_per_step, tokens_per_device and bf16",
    ):
        parse("train-reward", CONFIGS, given)


def test_sections_are_refused_before_the_dataset_is_read_where_the_tokenizer_cannot_tell_them_apart(tmp_path):
    save_backbone("llama", tmp_path / "base")
    joining_tokenizer().save_pretrained(tmp_path / "base")
    arguments = TrainRewardArguments(
        dataset=str(tmp_path / "none"), base_model=str(tmp_path / "base"), pooling="sections"
    )
    with pytest.raises(UserError, match=r"cannot load the backbone '.*base': its tokenizer has no fixed tokens"):
        train_reward(arguments, config(tmp_path / "out"))


def test_frozen_layers_and_adapters_are_refused_together():
    with pytest.raises(UserError, match="frozen_layers is 1 and lora_rank is 2; under adapters all layers are frozen"):
        TrainRewardArguments(dataset="x", base_model="y", lora_rank=2, frozen_layers=1)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"push_to_hub": True}, r"push_to_hub \(run wildreward push"),
        ({"hub_token": "secret"}, r"hub_token \(set HF_TOKEN"),
        ({"resume_from_checkpoint": "x"}, r"resume_from_checkpoint \(run the same command again"),
        ({"save_only_model": True}, r"save_only_model \(without the optimizer's state"),
    ],
)
def test_what_the_command_does_otherwise_is_refused_with_the_way(made, tmp_path, options, expected):
    arguments = TrainRewardArguments(dataset=str(made[0] / "rows.parquet"), base_model=str(made[0] / "base"))
    with pytest.raises(UserError, match=expected) as caught:
        train_reward(arguments, config(tmp_path / "out", **options))
    assert "secret" not in str(caught.value) and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"metric_for_best_model": "auc"}, "metric_for_best_model is 'auc'; expected one of mae, qwk, roc_auc"),
        (
            {"early_stopping_patience": 0, "eval_strategy": "steps"},
            "--early_stopping_patience is 0; expected at least 1",
        ),
        ({"early_stopping_patience": 2}, "eval_strategy is 'no'; set one of the two"),
        ({"tokens_per_device": 0}, "--tokens_per_device is 0; expected at least 1"),
    ],
)
def test_values_that_cannot_work_are_refused_at_once(tmp_path, options, expected):
    with pytest.raises(UserError, match=expected):
        config(tmp_path, **options)


@pytest.mark.parametrize(
    ("metric", "greater"),
    [("loss", False), ("eval_mae", False), ("ece", False), ("roc_auc", True), ("eval_qwk", True)],
)
def test_the_best_checkpoint_is_the_best_by_the_metrics_own_direction(tmp_path, metric, greater):
    assert config(tmp_path, metric_for_best_model=metric).greater_is_better is greater
    assert (
        config(tmp_path, metric_for_best_model=metric, greater_is_better=not greater).greater_is_better is not greater
    )


def test_the_smallest_loss_is_kept(made, tmp_path):
    arguments = TrainRewardArguments(
        dataset=str(made[0] / "rows.parquet"), base_model=str(made[0] / "base"), validation_share=0.3
    )
    steps = {"eval_strategy": "steps", "eval_steps": 4, "save_strategy": "steps", "save_steps": 4, "max_steps": 16}
    summary = train_reward(
        arguments, config(tmp_path / "out", metric_for_best_model="loss", learning_rate=1e-2, **steps)
    )
    found = {entry["step"]: entry["eval_loss"] for entry in summary["log"] if "eval_loss" in entry}
    assert summary["best_step"] == min(found, key=found.get)


def test_a_library_that_is_not_there_leaves_the_folder_free(made, tmp_path):
    arguments = TrainRewardArguments(
        dataset=str(made[0] / "rows.parquet"), base_model=str(made[0] / "base"), attn_implementation="flash_attention_2"
    )
    with pytest.raises(UserError, match=r"cannot load the backbone .*base.: FlashAttention2"):
        train_reward(arguments, config(tmp_path / "out"))
    assert not (tmp_path / "out" / "work" / "settings.json").exists()


def test_a_finished_folder_without_its_work_still_knows_its_settings(made, tmp_path):
    arguments = TrainRewardArguments(
        dataset=str(made[0] / "rows.parquet"), base_model=str(made[0] / "base"), validation_share=0.3
    )
    train_reward(arguments, config(tmp_path / "out", max_steps=1))
    shutil.rmtree(tmp_path / "out" / "work")
    with pytest.raises(UserError, match=r"learning_rate was 0\.001, now 0\.01"):
        train_reward(arguments, config(tmp_path / "out", max_steps=1, learning_rate=1e-2))
    assert train_reward(arguments, config(tmp_path / "out", max_steps=1))["steps"] == 1


def test_all_processes_see_that_a_run_is_complete(made):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    launch += ["-m", "wildreward", "train-reward", *made[1], "--rows-per-step", "8"]
    done = subprocess.run(launch, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "is complete already" in done.stderr


def test_data_and_weights_of_the_same_name_are_told_apart(made, tmp_path):
    toy_dataset(96, seed=1).to_parquet(tmp_path / "rows.parquet")
    (tmp_path / "base").mkdir()
    for path in (made[0] / "base").iterdir():
        (tmp_path / "base" / path.name).write_bytes(path.read_bytes())
    flags = [flag.replace(f"{made[0]}/base", f"{tmp_path}/base") for flag in made[1]]
    train_reward(*parse("train-reward", CONFIGS, flags))  # a copy is the same
    with pytest.raises(UserError, match=r"dataset_digest was '\w+', now '\w+'\)"):
        train_reward(*parse("train-reward", CONFIGS, [flag.replace(f"{made[0]}/r", f"{tmp_path}/r") for flag in flags]))
    weights = load_file(tmp_path / "base" / "model.safetensors")
    save_file({name: value + 1 for name, value in weights.items()}, tmp_path / "base" / "model.safetensors")
    with pytest.raises(UserError, match=r"base_model_digest was '\w+', now '\w+'\)"):
        train_reward(*parse("train-reward", CONFIGS, flags))


RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.mark.parametrize("name", ["quickstart-reward", "qwen3-4b", "qwen3-8b", "lora-24gb", "encoder"])
def test_every_recipe_parses(name, tmp_path):
    flags = ["--config", str(RECIPES / f"{name}.yaml"), "--dataset", "rows", "--output-dir", str(tmp_path)]
    arguments, config = parse("train-reward", CONFIGS, [*flags, "--bf16", "False"])
    assert arguments.base_model and config.max_length


@pytest.mark.parametrize("path", sorted((RECIPES / "accelerate").glob("*.yaml")), ids=lambda path: path.stem)
def test_accelerate_configurations_are_ones_accelerate_knows(path):
    from accelerate.commands.config.config_args import ClusterConfig

    values = yaml.safe_load(path.read_text())
    loaded = ClusterConfig.from_yaml_file(str(path))
    assert loaded.num_processes == values["num_processes"]
