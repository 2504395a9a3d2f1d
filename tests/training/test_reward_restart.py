"""Killed runs go on to the same weights, and two processes train like one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file

from tests.tiny import save_backbone
from tests.training import reward_child
from tests.training.reward_tiny import trainer
from wildreward.common.errors import UserError
from wildreward.training.resume import last_complete_checkpoint
from wildreward.training.reward_metrics import reward_metrics, standard_error

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = os.environ | {
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
}


def start(folder, launcher=(), **settings) -> subprocess.Popen:
    command = [sys.executable, *launcher, "-m", "tests.training.reward_child", str(folder), json.dumps(settings)]
    return subprocess.Popen(
        command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(process: subprocess.Popen) -> str:
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    return output


def results(folder) -> tuple[list[float], dict]:
    return json.loads((folder / "losses.json").read_text()), torch.load(folder / "weights.pt")


@pytest.mark.parametrize("pairs", [0, 20])
def test_a_killed_run_ends_in_the_same_weights(pairs, tmp_path, capsys):
    # dropout makes the result depend on the random state, too
    settings = {"num_train_epochs": 2, "save_strategy": "steps", "save_steps": 2, "dropout": 0.1, "pairs": pairs}
    settings["backbone"] = save_backbone("bert", tmp_path / "base")
    child = start(tmp_path / "killed", seconds_a_step=0.3, **settings)
    deadline = time.monotonic() + 200
    while not (tmp_path / "killed" / "checkpoint-8").exists():  # it may be killed in the middle of writing this one
        assert child.poll() is None and time.monotonic() < deadline, child.communicate()[0]
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    capsys.readouterr()
    reward_child.main(str(tmp_path / "killed"), dict(settings))
    assert "from checkpoint-" in capsys.readouterr().out
    reward_child.main(str(tmp_path / "undisturbed"), dict(settings))
    (expected_losses, expected), (found_losses, found) = results(tmp_path / "undisturbed"), results(tmp_path / "killed")
    assert expected_losses == found_losses
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.parametrize("adapters", [False, True])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "lack",
            r"checkpoint-1 does not fit the model in 1 of its weights, such as .*score.*: there of shape None, in the",
        ),
        ("extra", r"in 1 of its weights, such as extra: there of shape \(1,\), in the model None"),
        ("shape", r"in 1 of its weights, such as .*score.*: there of shape \(2, 7\), in the model \(\d, \d+\)"),
        ("cut", r"model\.safetensors is damaged or cut off"),
    ],
)
def test_a_checkpoint_that_is_not_the_models_is_not_gone_on_from(change, message, adapters, tmp_path):
    adapted = LoraConfig(r=2, target_modules="all-linear", exclude_modules=["score"]) if adapters else None
    settings = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1, "peft_config": adapted}
    trainer(tmp_path / "work", **settings).train()
    checkpoint = tmp_path / "work" / "checkpoint-1"
    file = checkpoint / ("adapter_model.safetensors" if adapters else "model.safetensors")
    weights = load_file(file)
    head = next(name for name in weights if "score" in name and name.endswith("weight"))
    if change == "lack":
        del weights[head]
    else:
        weights[head if change == "shape" else "extra"] = torch.ones(2, 7) if change == "shape" else torch.ones(1)
    if change == "cut":
        file.write_bytes(file.read_bytes()[:-100])
    else:
        save_file(weights, file, metadata={"format": "pt"})
    again = trainer(tmp_path / "work", **settings)
    with pytest.raises(UserError, match=message):
        again.train(resume_from_checkpoint=str(checkpoint))
    again.train(resume_from_checkpoint=str(tmp_path / "work" / "checkpoint-2"))  # the other one is whole


def test_half_written_checkpoints_are_not_used(tmp_path):
    for step, text in ((5, '{"global_step": 5}'), (10, '{"global_'), (15, None)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        save_file({"w": torch.ones(1)}, folder / "model.safetensors")
        for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
            torch.save({}, folder / name)
        if text:
            (folder / "trainer_state.json").write_text(text)
    assert last_complete_checkpoint(tmp_path).name == "checkpoint-5"
    assert (tmp_path / "checkpoint-15").exists()
    assert last_complete_checkpoint(tmp_path, remove_partial=True).name == "checkpoint-5"
    assert not (tmp_path / "checkpoint-15").exists() and not (tmp_path / "checkpoint-10").exists()
    assert last_complete_checkpoint(tmp_path / "nothing") is None


def test_the_best_checkpoint_is_the_latest_that_is_as_good_within_chance(tmp_path):
    """By (value, standard error) at steps 2, 4, 6 and 8: 0.70 is no worse than 0.71 ± 0.02, 0.60 is."""
    made = trainer(tmp_path, save_strategy="steps", metric_for_best_model="roc_auc")
    chosen = []
    for step, value, error in ((2, 0.71, 0.02), (4, 0.70, 0.02), (6, 0.60, 0.02), (8, 0.80, 0.0)):
        made.state.global_step, made._standard_error = step, error
        made._determine_best_metric({"eval_roc_auc": value}, None)
        chosen.append((made.state.best_global_step, made.state.best_metric))
    assert chosen == [(2, 0.71), (4, 0.71), (4, 0.71), (8, 0.80)]


def test_the_standard_error_is_that_of_the_metric_over_rows():
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(1, 5, (400,), generator=generator)
    logits = (labels[:, None] - torch.tensor([1.5, 2.5, 3.5])) + 2 * torch.randn(400, 1, generator=generator)
    # accuracy is a mean of hits: p (1 - p) / n
    accuracy = reward_metrics(logits, labels, "coral")["accuracy"]
    expected = (accuracy * (1 - accuracy) / 400) ** 0.5
    assert standard_error("accuracy", logits, labels, "coral", resamples=400) == pytest.approx(expected, rel=0.15)
    assert standard_error("roc_auc", logits[:3], torch.ones(3), "coral") == 0.0  # undefined with one level


@pytest.mark.parametrize("pairs", [0, 11])
def test_two_processes_give_the_loss_curve_of_one(pairs, tmp_path):
    # 48 rows in steps of 7: the last step has 6; of 11 pairs a step has one or two, so that a process may have none
    settings = {"rows_per_step": 7, "tokens_per_device": 150, "pairs": pairs}
    settings["backbone"] = save_backbone("llama", tmp_path / "base")
    launcher = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d")
    launcher += ("--rdzv-endpoint", "localhost:0")
    finish(start(tmp_path / "two", launcher, **settings))
    reward_child.main(str(tmp_path / "one"), dict(settings))
    (expected_losses, expected), (found_losses, found) = results(tmp_path / "one"), results(tmp_path / "two")
    assert found_losses == pytest.approx(expected_losses, abs=1e-5)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], atol=2e-5, rtol=1e-3, msg=name)
