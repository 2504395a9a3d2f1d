"""Runs that are cut off, and go on as if they had not been."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.training.dpo_child import sampled_trainer
from tests.training.dpo_tiny import curve, make_policy
from wildreward.training import RewardFunction, RewardSourceError
from wildreward.training.checkpoints import last_complete_checkpoint


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


class RewardServer:
    """Answers with the share of words in a or b of each response; can be switched off and on at the same port."""

    def __init__(self):
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                words = [m[-1]["content"].split() for m in body["messages"]]
                rewards = [sum(w[0] in "ab" for w in ws) / max(1, len(ws)) for ws in words]
                data = json.dumps({"rewards": rewards}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args):
                pass

        self.handler, self.port = Handler, 0

    def start(self):
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), self.handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


def test_reward_server_down_stops_with_a_checkpoint_and_resumes_on_the_same_curve(policy, tmp_path):
    server = RewardServer()
    server.start()

    def trainer(name, **changes):
        reward = RewardFunction(f"http://127.0.0.1:{server.port}", request="messages", deadline=0.5)
        return sampled_trainer(policy, str(tmp_path / name), reward, **{"max_steps": 4, "save_steps": 50, **changes})

    whole = trainer("whole")
    whole.train()

    cut = trainer("cut")
    watch = cut.roll_out
    cut.roll_out = lambda inputs: (server.stop() if cut.state.global_step == 2 else None, watch(inputs))[1]
    with pytest.raises(RewardSourceError, match=r"attempts.*stopped at step 2, checkpoint in .*checkpoint-2"):
        cut.train()
    assert curve(cut) == curve(whole)[:2]

    server.start()
    again = trainer("cut")
    again.train(resume_from_checkpoint=str(last_complete_checkpoint(tmp_path / "cut")))
    server.stop()
    assert curve(again) == curve(whole)
