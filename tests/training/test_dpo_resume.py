"""Runs that are cut off, and go on as if they had not been."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.reward_process import RewardProcess
from tests.training.dpo_child import sampled_trainer
from tests.training.dpo_tiny import curve, make_policy
from wildreward.training import RewardFunction, RewardSourceError
from wildreward.training.resume import last_complete_checkpoint


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return make_policy(tmp_path_factory.mktemp("policy"))


@pytest.fixture(scope="module")
def undisturbed(policy, tmp_path_factory):
    trainer = sampled_trainer(policy, str(tmp_path_factory.mktemp("run") / "out"))
    trainer.train()
    assert len(curve(trainer)) == 6
    return curve(trainer)


def test_kill_and_resume_gives_the_same_curve(policy, tmp_path, undisturbed):
    folder = tmp_path / "out"
    command = [sys.executable, "-m", "tests.training.dpo_child", "sampled", policy, str(folder)]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    log, deadline = tmp_path / "out.log", time.monotonic() + 240
    while not (log.exists() and len(log.read_text().splitlines()) >= 4) and time.monotonic() < deadline:
        assert child.poll() is None, "the child ended before it could be killed"
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    whole_lines = log.read_text().split("\n")[:-1]  # the kill can cut the last line short
    before = [json.loads(line) for line in whole_lines]
    assert len(before) >= 3
    assert [[row["step"], row["loss"]] for row in before] == [row[:2] for row in undisturbed[: len(before)]]

    checkpoint = last_complete_checkpoint(folder)
    assert checkpoint and checkpoint.name == "checkpoint-3"
    trainer = sampled_trainer(policy, str(folder))
    trainer.train(resume_from_checkpoint=str(checkpoint))
    assert curve(trainer) == undisturbed


def test_reward_servers_die_training_stops_with_a_checkpoint_and_resumes_on_the_same_curve(policy, tmp_path):
    servers = [RewardProcess(), RewardProcess()]

    def trainer(name, **changes):
        reward = RewardFunction(",".join(server.url for server in servers), deadline=0.5, batch_size=4)
        return sampled_trainer(policy, str(tmp_path / name), reward, **{"max_steps": 4, "save_steps": 50, **changes})

    whole = trainer("whole")
    whole.train()
    assert all(server.asked for server in servers)

    cut = trainer("cut")
    watch = cut.roll_out

    def roll_out(inputs):
        if cut.state.global_step in (1, 2):  # one is enough to go on
            servers[cut.state.global_step - 1].signal(signal.SIGKILL)
        return watch(inputs)

    cut.roll_out = roll_out
    with pytest.raises(RewardSourceError, match=r"attempts.*stopped at step 2, checkpoint in .*checkpoint-2"):
        cut.train()
    assert curve(cut) == curve(whole)[:2]

    for server in servers:
        server.start()
    again = trainer("cut")
    again.train(resume_from_checkpoint=str(last_complete_checkpoint(tmp_path / "cut")))
    for server in servers:
        server.child.kill()
    assert curve(again) == curve(whole)
