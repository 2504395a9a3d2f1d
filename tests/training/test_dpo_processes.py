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


def torchrun(*arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += ["-m", "tests.training.dpo_child", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240)


def test_two_processes_make_the_steps_of_one(policy, tmp_path):
    """Fixed completions, some pairs masked, two accumulation steps: the same weights as one process with all prompts."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    fixed_run(policy, tmp_path / "one")
    done = torchrun("fixed", policy, tmp_path / "two")
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = (torch.load(tmp_path / name / "out") for name in ("one", "two"))
    torch.testing.assert_close(two["weights"], one["weights"], rtol=1e-5, atol=1e-6)
    for name in ("loss", "reward", "reward/margin", "pairs/masked", "completions/chosen_length", "kl"):
        assert [row[name] for row in two["log"]] == pytest.approx([row[name] for row in one["log"]], abs=1e-5), name


def test_a_reward_source_lost_on_one_process_stops_all_with_a_checkpoint(policy, tmp_path):
    done = torchrun("failing", policy, tmp_path)
    assert done.returncode != 0
    assert "gone on one process; stopped at step 1" in done.stderr
    assert (tmp_path / "checkpoint-1" / "trainer_state.json").exists()
