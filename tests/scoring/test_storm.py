"""The server as a process of its own, with few files, among clients that never finish, send too much, or are many."""

import json
import os
import re
import resource
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.scoring.storm import Prober, ask, ask_until_taken, half_open, health, memory_mb, scored, unfinished_bodies
from tests.tiny import reward_model, tokenizer_for
from wildreward import RewardScorer

pytestmark = pytest.mark.slow
FILES = 256
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
CHATS = [
    [{"role": "user", "content": f"right {n}"}, {"role": "assistant", "content": "the cat sat " * (n % 7) + str(n)}]
    for n in range(64)
]


@contextmanager
def serving(folder, *options, python=sys.executable, cwd=None):
    """A server process that may open few files: its port, its id, and the file of what it says."""
    log = folder / "log"
    with log.open("w") as errors:
        child = subprocess.Popen(
            [python, "-m", "wildreward", "serve", "--model", str(folder / "model"), "--port", "0", *options],
            env=ENVIRONMENT,
            stderr=errors,
            cwd=cwd,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES)),
        )
    try:
        while not (found := re.search(r"http://127.0.0.1:(\d+)", log.read_text())):
            assert child.poll() is None, log.read_text()
            time.sleep(0.1)
        port = int(found[1])
        ask(port, "/health")
        yield port, child.pid, log
    finally:
        child.terminate()
        try:
            child.wait(60)
        except subprocess.TimeoutExpired:
            child.kill()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder with a model, and its scores of `CHATS`."""
    folder = tmp_path_factory.mktemp("storm")
    scorer = RewardScorer(reward_model("llama"), tokenizer_for("llama"))
    scorer.save_pretrained(folder / "model")
    return folder, scorer.score(CHATS)


def large_requests():
    """Requests of 33 MB, each with something else that costs."""
    answer = '{"role": "assistant", "content": "ok"}'
    empty = '{"role": "user", "content": ""}, ' * 1_000_000
    return {
        "a long message": json.dumps({"messages": [[{"role": "user", "content": "a " * 16_500_000}, CHATS[0][1]]]}),
        "many messages": f'{{"messages": [[{empty}{answer}]]}}',
        "many lists": '{"messages": [' + "[]," * 11_000_000 + "[]]}",
        "long conversations": json.dumps(
            {"messages": [[{"role": "user", "content": "a cat " * 5_500}, CHATS[0][1]]] * 1000}
        ),
        "one text": json.dumps({"query": ["\n<user>\n" * 3_300_000]}),
    }


def test_unfinished_requests_and_large_ones_hold_up_nobody(model):
    folder, expected = model
    with serving(folder) as (port, pid, log):
        scored(port, CHATS, expected)
        idle, said = memory_mb(pid), len(log.read_text())
        statuses, bodies = {}, large_requests()
        with (
            Prober(lambda: health(port), 0.1) as healthy,
            Prober(lambda: scored(port, CHATS[:2], expected[:2]), 0.1) as small,
            half_open(port, 600),
        ):
            time.sleep(3)
            with unfinished_bodies(port, 30, 60_000_000):
                time.sleep(10)
                for name, body in bodies.items():
                    path = "/get_reward" if name == "one text" else "/score"
                    statuses[name] = ask_until_taken(port, path, body.encode())
                time.sleep(2)
        most = memory_mb(pid, "VmHWM")
        told = log.read_text()[said:]
    print(f"\nhealth: {healthy}\nscores: {small}\nmemory: {idle:.0f} MB idle, {most:.0f} MB at most\n{statuses}")
    assert not healthy.failures and max(healthy.seconds) < 1
    assert not small.failures and max(small.seconds) < 2
    assert most - idle < 1000
    assert statuses == {
        "a long message": 413,
        "many messages": 413,
        "many lists": 413,
        "long conversations": 200,
        "one text": 413,
    }
    assert "Traceback" not in told and len(told.splitlines()) < 100


def many_clients(port, expected, clients, seconds):
    """How many scores that many clients got within a time, all of them right."""
    end = time.monotonic() + seconds

    def client(number):
        count = 0
        while time.monotonic() < end:
            first = (number + count) % len(CHATS)
            chats = CHATS[first : first + 1 + count % 3]
            scored(port, chats, expected[first : first + len(chats)])
            count += len(chats)
        return count

    with ThreadPoolExecutor(clients) as pool:
        return sum(pool.map(client, range(clients)))


def test_many_clients_get_the_right_scores(model):
    folder, expected = model
    with serving(folder) as (port, _, log):
        found = many_clients(port, expected, 64, float(os.environ.get("WILDREWARD_STORM_SECONDS", 10)))
        assert "Traceback" not in log.read_text()
    print(f"\n{found} scores")
    assert found > 64


def test_with_too_few_files_the_server_says_so_at_once(model):
    folder, _ = model
    child = subprocess.run(
        [sys.executable, "-m", "wildreward", "serve", "--model", str(folder / "model"), "--port", "0"],
        env=ENVIRONMENT,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100)),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert child.returncode != 0
    assert "the server may open 100 files; it needs at least 113: raise `ulimit -n`" in child.stderr
