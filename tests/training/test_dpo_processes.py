"""Two processes against one, with torchrun and gloo."""

import subprocess
import sys

import pytest
import torch

from tests.training.dpo_child import fixed_run
from tests.training.dpo_tiny import make_policy


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return make_policy(tmp_path_factory.mktemp("policy"))


@pytest.fixture(scope="module")
def two_processes(policy, tmp_path_factory):
    """One launch for both tests: a run to the end, then one whose reward source is lost on the second process."""
    folder = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += ["-m", "tests.training.dpo_child", "fixed-then-failing", policy, str(folder)]
    return folder, subprocess.run(command, capture_output=True, text=True, timeout=280)


def test_two_processes_make_the_steps_of_one(policy, tmp_path, two_processes):
    """Fixed completions, some pairs masked, two accumulation steps: the same weights as one process with all prompts."""
    fixed_run(policy, tmp_path)
    folder, done = two_processes
    assert (folder / "out").exists(), done.stderr[-3000:]
    one, two = torch.load(tmp_path / "out"), torch.load(folder / "out")
    torch.testing.assert_close(two["weights"], one["weights"], rtol=1e-5, atol=1e-6)
    for name in ("loss", "reward", "reward/margin", "pairs/masked", "completions/chosen_length", "kl"):
        assert [row[name] for row in two["log"]] == pytest.approx([row[name] for row in one["log"]], abs=1e-5), name


def test_a_reward_source_lost_on_one_process_stops_all_with_a_checkpoint(two_processes):
    folder, done = two_processes
    assert done.returncode != 0
    assert "gone on one process; stopped at step 1" in done.stderr
    assert (folder / "checkpoint-1" / "trainer_state.json").exists()
