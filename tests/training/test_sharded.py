"""The sharding recipes, launched as users launch them, train the model that one process trains."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.tiny import decoder_tokenizer, reward_model, save_backbone
from tests.training.dpo_tiny import make_policy, make_prompts
from tests.training.reward_tiny import toy_dataset
from wildreward.commands import parse
from wildreward.scoring import RewardScorer
from wildreward.training.reward_command import CONFIGS, main

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = os.environ | {
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "DS_ACCELERATOR": "cpu",
    "CUDA_VISIBLE_DEVICES": "",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
}
deepspeed = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None or shutil.which("c++") is None,
    reason="needs the extra wildreward[train], and a compiler for what DeepSpeed builds on a CPU",
)
ENGINES = ["fsdp2", pytest.param("zero2", marks=deepspeed), pytest.param("zero3", marks=deepspeed)]


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    """What every run is given; each step takes several passes, and the last step is short."""
    folder = tmp_path_factory.mktemp("sharded")
    toy_dataset(64).to_parquet(folder / "rows.parquet")
    given = [
        "train-reward",
        "--dataset",
        f"{folder}/rows.parquet",
        "--base-model",
        save_backbone("llama", folder / "base"),
    ]
    given += [
        "--validation-share",
        "0.25",
        "--learning-rate",
        "1e-3",
        "--num-train-epochs",
        "2",
        "--rows-per-step",
        "9",
    ]
    given += ["--tokens-per-device", "150", "--eval-strategy", "steps", "--eval-steps", "5", "--save-strategy", "steps"]
    given += [
        "--save-steps",
        "5",
        "--save-total-limit",
        "9",
        "--load-best-model-at-end",
        "False",
        "--logging-steps",
        "1",
    ]
    return [*given, "--bf16", "False", "--disable-tqdm", "True", "--ddp-backend", "gloo"]


@pytest.fixture(scope="module")
def alone(arguments, tmp_path_factory):
    """The folder that one process writes."""
    folder = tmp_path_factory.mktemp("alone")
    single = arguments[1:-2]
    main(*parse("train-reward", CONFIGS, [*single, "--output-dir", str(folder), "--use-cpu", "True"]))
    return folder


def start(engine: str, arguments: list[str], folder: Path, precision: str = "no") -> subprocess.CompletedProcess:
    """Two processes under `recipes/accelerate/<engine>.yaml`, by default in float32."""
    launcher = [
        "accelerate.commands.launch",
        "--config_file",
        f"recipes/accelerate/{engine}.yaml",
        "--num_processes",
        "2",
    ]
    launcher += ["--mixed_precision", precision, "--main_process_port", "0", "-m", "tests.training.accelerator_child"]
    return subprocess.run(
        [sys.executable, "-m", *launcher, *arguments, "--output-dir", str(folder)],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=420,
    )


def launch(engine: str, arguments: list[str], folder: Path) -> list[str]:
    """Run to the end; where the processes resumed, if they did."""
    done = start(engine, arguments, folder)
    assert done.returncode == 0, done.stdout + done.stderr
    sharding = "fsdp2" if engine == "fsdp2" else f"deepspeed stage {engine[-1]}"
    assert done.stdout.count(f"sharded by {sharding}") == 2, done.stdout
    return [line for line in done.stdout.splitlines() if line.startswith("resumed from")]


def assert_same_run(found: Path, expected: Path) -> None:
    summaries = [json.loads((folder / "training_summary.json").read_text()) for folder in (found, expected)]
    for name in ("rows", "steps"):
        assert summaries[0][name] == summaries[1][name]
    losses = [[entry["loss"] for entry in summary["log"] if "loss" in entry] for summary in summaries]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert summaries[0]["temperatures"] == pytest.approx(summaries[1]["temperatures"], rel=1e-3)
    assert summaries[0]["validation"] == pytest.approx(summaries[1]["validation"], abs=1e-4)
    weights = [load_file(folder / "model.safetensors") for folder in (found, expected)]
    assert weights[0].keys() == weights[1].keys()
    for name in weights[1]:
        torch.testing.assert_close(weights[0][name], weights[1][name], atol=2e-5, rtol=1e-3, msg=name)


@pytest.mark.slow
@pytest.mark.timeout(900)  # the first run compiles what DeepSpeed needs on a CPU
@pytest.mark.parametrize("engine", ENGINES)
def test_sharded_over_two_processes_the_command_trains_the_model_of_one(engine, arguments, alone, tmp_path):
    assert launch(engine, arguments, tmp_path / "run") == []
    assert_same_run(tmp_path / "run", alone)
    # as after a kill between the second checkpoint and the end
    for path in (tmp_path / "run").iterdir():
        if path.name != "work":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    checkpoints = sorted((tmp_path / "run" / "work").glob("checkpoint-*"), key=lambda path: int(path.name[11:]))
    shutil.rmtree(checkpoints[-1])
    assert len(checkpoints) > 2
    assert launch(engine, arguments, tmp_path / "run") == [f"resumed from {checkpoints[-2].name}"] * 2
    assert_same_run(tmp_path / "run", alone)


ADAPTERS = ["--lora-rank", "4", "--lora-dropout", "0"]


@deepspeed
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_adapters_over_two_processes_are_merged_like_those_of_one(arguments, tmp_path):
    single = arguments[1:-2]
    main(
        *parse("train-reward", CONFIGS, [*single, *ADAPTERS, "--output-dir", f"{tmp_path}/alone", "--use-cpu", "True"])
    )
    launch("zero2", [*arguments, *ADAPTERS], tmp_path / "run")
    assert_same_run(tmp_path / "run", tmp_path / "alone")


def test_in_bfloat16_sharding_rounds_neither_losses_nor_logits(arguments, tmp_path):
    """Layers compute in bfloat16; row counts, weights, logits and losses stay float32, as in one process."""
    mixed = [*arguments, "--bf16", "True"]  # of a repeated flag the last counts
    single = [*arguments[1:-2], "--bf16", "True"]
    main(*parse("train-reward", CONFIGS, [*single, "--output-dir", f"{tmp_path}/alone", "--use-cpu", "True"]))
    done = start("fsdp2", mixed, tmp_path / "run", precision="bf16")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "logits are float32" in done.stdout and "rounded" not in done.stdout
    assert "layers in torch.bfloat16, gradients summed in torch.float32" in done.stdout
    summaries = [json.loads((tmp_path / name / "training_summary.json").read_text()) for name in ("run", "alone")]
    losses = [[entry["loss"] for entry in summary["log"] if "loss" in entry] for summary in summaries]
    assert losses[0] == pytest.approx(losses[1], rel=0.01)


@pytest.mark.parametrize(
    ("engine", "name"), [("fsdp2", "FSDP"), pytest.param("zero3", "ZeRO-3", marks=[deepspeed, pytest.mark.slow])]
)
def test_adapters_are_refused_at_once_where_the_weights_are_sharded(engine, name, arguments, tmp_path):
    done = start(engine, [*arguments, *ADAPTERS, "--base-model", f"{tmp_path}/none"], tmp_path / "run")
    assert done.returncode != 0
    assert f"adapters are trained under {name}, which shards the weights" in done.stderr
    assert not (tmp_path / "run").exists()


@deepspeed
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_under_zero3_a_policy_is_trained_with_a_reward_model_that_each_process_holds_whole(tmp_path):
    make_policy(tmp_path / "policy")
    RewardScorer(reward_model("llama"), decoder_tokenizer()).save_pretrained(tmp_path / "rm")
    chats = [[*messages, {"role": "assistant", "content": "c1"}] for messages in make_prompts(14)["prompt"]]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in chats))
    given = f"train-dpo --model {tmp_path}/policy --reward-model {tmp_path}/rm --dataset {tmp_path}/chats.jsonl"
    given += " --num-generations 4 --per-device-train-batch-size 4 --max-completion-length 6 --choose-truncated True"
    given += " --max-steps 2 --learning-rate 1e-2 --held-out-prompts 4 --num-generations-eval 2 --per-device-eval-batch-size 2"
    given += " --bf16 False --gradient-checkpointing False --disable-tqdm True --report-to none --ddp-backend gloo"
    done = start("zero3", given.split(), tmp_path / "out")
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "out" / "dpo_results.json").read_text())
    assert results["steps"] == 2 and results["settings"]["engine"] == "zero3"
    assert results["held_out"]["reward"]["before"]["value"] > 1
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("policy", "out"))
    assert {name: w.shape for name, w in after.items()} == {name: w.shape for name, w in before.items()}
    assert not torch.equal(before["model.layers.0.mlp.up_proj.weight"], after["model.layers.0.mlp.up_proj.weight"])
