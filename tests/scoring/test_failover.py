"""Several reward servers, each a process of its own, of which one dies or hangs under load."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.reward_process import RewardProcess, share_of_ab
from wildreward.common.errors import UserError
from wildreward.scoring import RewardFunction, RewardSourceError, load_scorer

WORDS = ("a1", "b2", "c3", "d4", "e5")
CHATS = [
    [
        {"role": "user", "content": f"question {n}"},
        {"role": "assistant", "content": " ".join(WORDS[n * k % 5] for k in range(1, 2 + n % 7))},
    ]
    for n in range(240)
]
EXPECTED = [share_of_ab(chat[-1]["content"]) for chat in CHATS]


@pytest.fixture
def servers():
    running = [RewardProcess(seconds=0.05), RewardProcess(seconds=0.05)]
    yield running
    for server in running:
        server.child.kill()


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
def test_one_of_two_servers_dies_or_hangs_under_load_and_no_score_is_lost_or_changed(servers, fault, caplog):
    first, second = servers
    reward = RewardFunction([first.url, second.url], batch_size=2, timeout=2, deadline=60)
    with ThreadPoolExecutor(1) as pool:
        scores = pool.submit(reward.score, CHATS)
        while not (first.asked >= 5 and second.asked >= 5):
            time.sleep(0.005)
        first.signal(fault)
        assert not scores.done()
        assert scores.result() == EXPECTED
    assert f"reward server {first.url[7:-6]}: " in caplog.text and second.url[7:-6] not in caplog.text
    asked = second.asked
    assert reward.score(CHATS[:40]) == EXPECTED[:40]  # what failed is known in the next call
    assert second.asked - asked >= 19


def test_servers_share_the_work_and_each_has_a_bounded_number_under_way(servers):
    together = ",".join(server.url for server in servers)
    scorer = load_scorer(together, batch_size=2, concurrency=3)
    most = [0, 0]
    for place, server in enumerate(scorer.servers):
        plain = server.post

        async def post(*arguments, place=place, server=server, plain=plain):
            most[place] = max(most[place], server.under_way)
            return await plain(*arguments)

        server.post = post
    assert [one.score for one in scorer.score(CHATS)] == EXPECTED
    assert most == [3, 3]
    assert min(server.asked for server in servers) > 30 and sum(server.asked for server in servers) == 120


def test_all_servers_gone_is_an_error_in_time_and_the_next_call_asks_again(servers):
    reward = RewardFunction([server.url for server in servers], deadline=2)
    assert reward.score(CHATS[:3]) == EXPECTED[:3]
    for server in servers:
        server.signal(signal.SIGKILL)
    names = ", ".join(server.url[7:-6] for server in servers)
    with pytest.raises(
        RewardSourceError, match=rf"reward servers {names} gave no rewards in [2-9] attempts and \d+ s "
    ):
        reward.score(CHATS[:3])
    for server in servers:
        server.start()
    assert reward.score(CHATS[:3]) == EXPECTED[:3]


def test_a_list_of_which_one_cannot_be_asked_is_refused_at_once():
    with pytest.raises(UserError, match="a list of 2 reward models is one model only where all are URLs"):
        RewardFunction(["http://host:1/score", "runs/rm"])
    with pytest.raises(UserError, match=r"http\(s\)://HOST\[:PORT\]/PATH"):
        RewardFunction("http://host:1/score,http://h k3y")


def test_a_file_is_scored_by_what_is_left_of_the_servers(servers, tmp_path):
    from wildreward.scoring.score_command import ScoreConfig, score_rows

    source, output = tmp_path / "chats.jsonl", tmp_path / "scores.jsonl"
    source.write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in CHATS[:60]))
    servers[1].signal(signal.SIGKILL)
    urls = ",".join(server.url for server in servers)
    counts = score_rows(ScoreConfig(model=urls, input=str(source), output=str(output), chunk_size=20))
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert counts == {"scored": 60, "error": 0} and [row["score"] for row in rows] == EXPECTED[:60]
    assert rows[0]["level_probs"] == [0.25] * 4


@pytest.mark.slow
def test_one_of_two_scoring_servers_is_killed_with_requests_under_way(tmp_path):
    from tests.tiny import reward_model, tokenizer_for
    from wildreward import RewardScorer

    scorer = RewardScorer(reward_model("llama"), tokenizer_for("llama"))
    scorer.save_pretrained(tmp_path / "model")
    children, urls = [], []
    try:
        for place in range(2):
            command = [sys.executable, "-m", "wildreward", "serve", "--model", str(tmp_path / "model"), "--port", "0"]
            with open(tmp_path / f"log{place}", "w") as log:
                environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
                children.append(subprocess.Popen(command, env=environment, stderr=log))
        for place, child in enumerate(children):
            while not (found := re.search(r"http://127.0.0.1:\d+", (tmp_path / f"log{place}").read_text())):
                assert child.poll() is None, (tmp_path / f"log{place}").read_text()
                time.sleep(0.1)
            urls.append(f"{found[0]}/score")
        remote = load_scorer(urls, batch_size=2)
        assert len(remote.score(CHATS[:4])) == 4  # both are up
        first = remote.servers[0]
        with ThreadPoolExecutor(1) as pool:
            scores = pool.submit(remote.score, CHATS)
            while not first.under_way:
                time.sleep(0.001)
            children[0].kill()
            rows = scores.result()
        assert first.failures and not scores.exception()
    finally:
        for child in children:
            child.kill()
    assert [row.score for row in rows] == pytest.approx(scorer.score(CHATS), abs=1e-5)
    for row, levels in zip(rows, scorer.level_probs(CHATS).tolist(), strict=True):
        assert row.level_probs == pytest.approx(levels, abs=1e-5)
