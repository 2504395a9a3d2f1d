"""Runs with preference pairs: killed ones go on to the same weights, and two processes train like one."""

import os
import signal
import time

import pytest
import torch

from tests.tiny import save_backbone
from tests.training import reward_child
from tests.training.test_reward_restart import finish, results, start


def test_a_killed_run_with_pairs_ends_in_the_same_weights(tmp_path, capsys):
    settings = {"num_train_epochs": 2, "save_strategy": "steps", "save_steps": 2, "dropout": 0.1, "pairs": 20}
    settings["backbone"] = save_backbone("bert", tmp_path / "base")
    child = start(tmp_path / "killed", seconds_a_step=0.3, **settings)
    deadline = time.monotonic() + 200
    while not (tmp_path / "killed" / "checkpoint-8").exists():  # in the second epoch
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


def test_two_processes_give_the_loss_curve_of_one_with_pairs(tmp_path):
    # 48 rows in steps of 7 with 11 pairs: one or two a step, so that a process may have none
    settings = {"rows_per_step": 7, "tokens_per_device": 150, "pairs": 11}
    settings["backbone"] = save_backbone("llama", tmp_path / "base")
    launcher = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d")
    launcher += ("--rdzv-endpoint", "localhost:0")
    finish(start(tmp_path / "two", launcher, **settings))
    reward_child.main(str(tmp_path / "one"), dict(settings))
    (expected_losses, expected), (found_losses, found) = results(tmp_path / "one"), results(tmp_path / "two")
    assert found_losses == pytest.approx(expected_losses, abs=1e-5)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], atol=2e-5, rtol=1e-3, msg=name)
