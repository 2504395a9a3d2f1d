"""Damaged checkpoints, full disks: what a run goes on from, and what it says. Real files, really cut."""

import contextlib
import json
import os
import re
import resource
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.tiny import decoder_tokenizer, reward_model, save_backbone
from tests.training.dpo_tiny import make_policy, make_prompts
from tests.training.reward_tiny import config, toy_dataset, trainer
from wildreward.cli import run
from wildreward.commands import parse
from wildreward.common.errors import UserError
from wildreward.scoring.scorer import RewardScorer
from wildreward.training import dpo_command
from wildreward.training.resume import NonFiniteLoss, damage, last_complete_checkpoint, writing
from wildreward.training.reward_arguments import TrainRewardArguments
from wildreward.training.reward_command import train_reward

FILES = ["model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json", "rng_state.pth", "config.json"]
DPO_FLAGS = """--num-generations 4 --per-device-train-batch-size 8 --max-completion-length 6 --choose-truncated True
--logging-steps 1 --report-to none --use-cpu True --bf16 False --gradient-checkpointing False --disable-tqdm True
--learning-rate 1e-2 --held-out-prompts 0 --max-steps 4 --save-strategy steps --save-steps 2"""


def cut(path):
    """To half of it."""
    os.truncate(path, path.stat().st_size // 2)


def empty(path):
    os.truncate(path, 0)


def flip(path):
    """One byte in the middle is another."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    toy_dataset(64).to_parquet(folder / "rows.parquet")
    save_backbone("bert", folder / "base")
    make_policy(folder / "policy")
    RewardScorer(reward_model("llama"), decoder_tokenizer()).save_pretrained(folder / "rm")
    rows = [
        {"messages": [*messages, {"role": "assistant", "content": "c1"}]} for messages in make_prompts(10)["prompt"]
    ]
    (folder / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def reward_run(inputs, folder, **settings):
    """Six steps, a checkpoint every second; dropout makes the result depend on the random state."""
    arguments = TrainRewardArguments(
        dataset=str(inputs / "rows.parquet"), base_model=str(inputs / "base"), validation_share=0.25
    )
    chosen = {"max_steps": 6, "save_strategy": "steps", "save_steps": 2, "save_total_limit": None}
    return train_reward(arguments, config(folder, **(chosen | {"disable_dropout": False} | settings)))


def dpo_run(inputs, folder, *more):
    argv = ["--model", str(inputs / "policy"), "--reward-model", str(inputs / "rm"), "--output-dir", str(folder)]
    argv += ["--dataset", str(inputs / "chats.jsonl"), *DPO_FLAGS.split(), *more]
    return dpo_command.train_policy(*parse("train-dpo", dpo_command.CONFIGS, argv))


COMMANDS = {  # how a command is run, where its checkpoints are, its result, its steps
    "train-reward": (reward_run, "work", "training_summary.json", (6, 4)),
    "train-dpo": (dpo_run, ".", "dpo_results.json", (4, 2)),
}


@pytest.fixture(scope="module")
def finished(inputs, tmp_path_factory):
    """The folder that an undisturbed run of each command leaves."""
    folders = {name: tmp_path_factory.mktemp(name) for name in COMMANDS}
    for name, (start, *_) in COMMANDS.items():
        start(inputs, folders[name])
    return folders


def as_killed_before_the_end(finished, command, folder):
    """A copy of the finished folder without what is written after training; its newest and second-newest checkpoint."""
    shutil.copytree(finished[command], folder)
    _, where, result, steps = COMMANDS[command]
    for name in (result, "model.safetensors"):
        (folder / name).unlink()
    return tuple(folder / where / f"checkpoint-{step}" for step in steps)


DAMAGES = {"half": (cut, "cannot be read"), "empty": (empty, "is empty"), "flip": (flip, "the checksum of .* is wrong")}


@pytest.mark.parametrize(
    ("command", "name", "damaged"),
    [
        *(("train-reward", name, damaged) for name in FILES for damaged in ("half", "empty")),
        ("train-reward", "optimizer.pt", "flip"),
        *(("train-dpo", name, "half") for name in FILES[:-1]),
    ],
)
def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one_to_the_same_weights(
    inputs, finished, tmp_path, caplog, command, name, damaged
):
    how, said = DAMAGES[damaged]
    newest, before = as_killed_before_the_end(finished, command, tmp_path / "out")
    how(newest / name)
    start, _, result, _ = COMMANDS[command]
    with caplog.at_level("WARNING"):
        found = start(inputs, tmp_path / "out")
    (warning,) = [record.getMessage() for record in caplog.records if "is damaged" in record.getMessage()]
    assert warning.startswith(f"{newest.name} is damaged ({name} ") and f"going on from {before.name}" in warning
    assert re.search(said, warning)
    expected, weights = (load_file(folder / "model.safetensors") for folder in (finished[command], tmp_path / "out"))
    assert all(torch.equal(expected[key], weights[key]) for key in expected)
    undisturbed = json.loads((finished[command] / result).read_text())
    assert found["steps"] == undisturbed["steps"]
    for key in ("prompts_with_pair", "prompts_without_pair"):
        assert found.get(key) == undisturbed.get(key)
    assert damage(newest) is None and (newest.parent / f"damaged-{newest.name}" / name).exists()


def test_what_else_can_be_wrong_with_a_checkpoint(finished, tmp_path):
    sound = finished["train-reward"] / "work" / "checkpoint-6"

    def reason(change):
        folder = tmp_path / "checkpoint-9"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(sound, folder)
        change(folder)
        return damage(folder)

    def lose_a_shard(folder):
        (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
        index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    def state(**changes):
        def change(folder):
            path = folder / "trainer_state.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | changes))

        return change

    assert reason(lambda folder: None) is None
    assert "model-00002-of-00002.safetensors is missing" in reason(lose_a_shard)
    assert "cannot be read" in reason(lambda folder: (folder / "config.json").write_text("[" * 100_000))
    assert "it names no global_step" in reason(state(global_step="2"))
    for best in ("../x", "9" * 400, None):
        assert reason(state(best_global_step=best)) is None


@pytest.mark.parametrize("command", COMMANDS)
def test_where_no_checkpoint_is_sound_each_is_named_and_kept(inputs, finished, tmp_path, command):
    newest, before = as_killed_before_the_end(finished, command, tmp_path / "out")
    for path in newest.parent.glob("checkpoint-*"):
        if path not in (newest, before):
            shutil.rmtree(path)
    cut(newest / "trainer_state.json")
    (before / "optimizer.pt").unlink()
    with pytest.raises(UserError) as caught:
        COMMANDS[command][0](inputs, tmp_path / "out")
    assert f"({newest.name}: trainer_state.json cannot be read: " in str(caught.value)
    assert f"; {before.name}: there is no file with the optimizer's state); restore the file" in str(caught.value)
    assert newest.exists() and before.exists()


def test_a_checkpoint_that_the_user_names_is_not_replaced_by_another(inputs, finished, tmp_path):
    newest, _ = as_killed_before_the_end(finished, "train-dpo", tmp_path / "out")
    cut(newest / "model.safetensors")
    with pytest.raises(UserError, match=r"checkpoint-4 cannot be gone on from: model\.safetensors cannot be read: "):
        dpo_run(inputs, tmp_path / "out", "--resume-from-checkpoint", str(newest))
    with pytest.raises(UserError, match=r"checkpoint-9 cannot be gone on from: trainer_state\.json is missing"):
        dpo_run(inputs, tmp_path / "out", "--resume-from-checkpoint", str(newest.with_name("checkpoint-9")))


def test_what_a_kill_left_of_the_first_checkpoint_is_no_damage(inputs, finished, tmp_path):
    """It is marked as unfinished while it is written: a run killed then begins anew instead of asking for help."""
    newest, _ = as_killed_before_the_end(finished, "train-reward", tmp_path / "out")
    for path in newest.parent.glob("checkpoint-*"):
        if path != newest:
            shutil.rmtree(path)
    assert not (newest / "unfinished").exists()
    (newest / "unfinished").touch()
    cut(newest / "trainer_state.json")
    assert last_complete_checkpoint(newest.parent, remove_partial=True) is None and not newest.exists()


def test_the_state_is_written_when_all_processes_have_written_theirs(tmp_path):
    made = trainer(tmp_path, max_steps=1, save_strategy="steps", save_steps=1)
    folder, seen = tmp_path / "checkpoint-1", []
    made.accelerator.wait_for_everyone = lambda: seen.append({path.name for path in folder.glob("*")})
    made.train()
    (found,) = [names for names in seen if "rng_state.pth" in names and "trainer_state.json" not in names]
    assert {"unfinished", "model.safetensors", "optimizer.pt", "scheduler.pt"} <= found
    assert not (folder / "unfinished").exists() and damage(folder) is None


def test_a_damaged_best_checkpoint_is_found_before_it_is_needed(inputs, tmp_path):
    settings = {"eval_strategy": "steps", "eval_steps": 2, "metric_for_best_model": "loss", "greater_is_better": True}
    settings |= {"max_steps": 6}  # the loss falls, so the first checkpoint is the best
    assert reward_run(inputs, tmp_path / "out", **settings)["best_step"] == 2
    for name in ("training_summary.json", "model.safetensors"):
        (tmp_path / "out" / name).unlink()
    cut(tmp_path / "out" / "work" / "checkpoint-2" / "model.safetensors")
    with pytest.raises(
        UserError, match=r"checkpoint-6: its best checkpoint checkpoint-2 is damaged: model\.safetensors"
    ):
        reward_run(inputs, tmp_path / "out", **settings)


def test_weights_that_are_not_finite_are_no_damaged_file(inputs, finished, tmp_path):
    """Going back to the checkpoint before would hide that training diverged."""
    newest, before = as_killed_before_the_end(finished, "train-reward", tmp_path / "out")
    shutil.rmtree(newest)
    weights = {name: value * float("nan") for name, value in load_file(before / "model.safetensors").items()}
    save_file(weights, before / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(NonFiniteLoss, match="the loss is nan at step 5"):
        reward_run(inputs, tmp_path / "out")
    assert damage(before) is None


# ---- writing


@contextlib.contextmanager
def small_disk(folder, size):
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("a file system of its own can be mounted by root only")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def bytes_of(folder):
    """On disk, in pages."""
    return sum(4096 * -(-path.stat().st_size // 4096) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("command", "share"), [("train-reward", 0.05), ("train-reward", 0.5), ("train-reward", 0.9), ("train-dpo", 0.6)]
)
def test_a_disk_that_is_full_while_saving_is_named_and_the_run_can_go_on(inputs, finished, tmp_path, command, share):
    """Room for the first checkpoint and a share of the second: in turn the weights and the optimizer do not fit."""
    start, where, _, _ = COMMANDS[command]
    one = bytes_of(finished[command] / where / "checkpoint-2")
    with small_disk(tmp_path / "disk", int((1 + share) * one) + 16384) as disk:
        with pytest.raises(UserError) as caught:
            start(inputs, disk)
        message = str(caught.value)
        assert message.startswith(f"cannot write {(disk / where).resolve()}/checkpoint-4: ")
        assert "No space left on device" in message or "is the disk full?" in message
        assert last_complete_checkpoint(disk / where).name == "checkpoint-2"
        subprocess.run(["mount", "-o", f"remount,size={20 * one}", disk], check=True)
        start(inputs, disk)
        expected, found = (load_file(folder / "model.safetensors") for folder in (finished[command], disk))
        assert all(torch.equal(expected[key], found[key]) for key in expected)


def test_a_disk_that_is_full_for_the_model_ends_the_command_in_one_line(inputs, finished, tmp_path, capsys):
    one = bytes_of(finished["train-reward"] / "work" / "checkpoint-2")
    argv = ["--dataset", f"{inputs}/rows.parquet", "--base-model", f"{inputs}/base", "--output-dir"]
    flags = ["--max-steps", "2", "--save-strategy", "no", "--eval-strategy", "no", "--warmup-steps", "0"]
    with small_disk(tmp_path / "disk", one // 8) as disk, pytest.raises(SystemExit) as ended:
        run(["train-reward", *argv, str(disk / "rm"), *flags, "--validation-share", "0.25", "--use-cpu", "True"])
    assert ended.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: cannot write {disk}/rm: No space left on device; checkpoints written before")


def test_a_checkpoint_that_cannot_be_created_is_named(inputs, tmp_path):
    (tmp_path / "out" / "work").mkdir(parents=True)
    (tmp_path / "out" / "work" / "checkpoint-2").write_text("a file")
    with pytest.raises(UserError, match=r"cannot write .*checkpoint-2: File exists"):
        reward_run(inputs, tmp_path / "out")


def test_every_library_that_writes_is_understood(tmp_path):
    """torch, safetensors, tokenizers and Python, each where no file may grow over a page."""
    tokenizer = decoder_tokenizer()
    writers = (
        lambda: torch.save(torch.zeros(9999), tmp_path / "a.pt"),
        lambda: save_file({"a": torch.zeros(9999)}, tmp_path / "b.safetensors"),
        lambda: tokenizer.save_pretrained(tmp_path),
        lambda: (tmp_path / "c.json").write_text("0" * 9999),
    )
    reasons = []
    for write in writers:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        try:
            with pytest.raises(UserError) as caught, writing("the folder"):
                write()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        reasons.append(str(caught.value).removeprefix("cannot write the folder: ").split(";")[0])
    assert reasons == ["PyTorch could not write a file to its end (is the disk full?)", *["File too large"] * 3]


@pytest.mark.parametrize(
    "error", [RuntimeError("CUDA out of memory"), ConnectionResetError(104, "reset"), KeyError("x")]
)
def test_other_errors_while_saving_stay_what_they_are(tmp_path, error):
    with pytest.raises(type(error)) as caught, writing(tmp_path):
        raise error
    assert caught.value is error


@pytest.mark.slow
def test_two_processes_go_back_to_the_same_checkpoint(inputs, finished, tmp_path):
    newest, before = as_killed_before_the_end(finished, "train-reward", tmp_path / "out")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    launch += ["tests.training.resume_child", str(tmp_path / "out" / "work")]
    cut(newest / "optimizer.pt")
    done = subprocess.run(launch, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split("\n")[:-1]) == [f"{rank} {before.name}" for rank in (0, 1)]
    for path in newest.parent.glob("checkpoint-*"):
        cut(path / "optimizer.pt")
    done = subprocess.run(launch, capture_output=True, text=True, timeout=240)
    assert done.stdout.count("no checkpoint in") == 2
