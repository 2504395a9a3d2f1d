"""What a run leaves behind when it fails before the first question, and what the next one finds."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from tests.dataset_builder.chats import write_chats, write_jsonl
from tests.dataset_builder.llm_rows import QUICK
from tests.llm_stub import StubServer, error, level_by_content
from wildreward.common.errors import UserError
from wildreward.common.files import FolderLock
from wildreward.common.llm.ledger import totals
from wildreward.dataset_builder.build import bind_settings, build_dataset
from wildreward.dataset_builder.prepare import prepare
from wildreward.dataset_builder.settings import BuildSettings

TURNS = 90
ENOUGH = 40


def build(log, output, stub):
    options = {"model": "stub", "base_url": stub.url, "concurrency": 4, "retry_policy": QUICK}
    return build_dataset(str(log), output, labeler="llm", labeler_options=options, mining_window=0)


@pytest.fixture
def interrupted(tmp_path):
    """A build whose server refused the key halfway: its log, its work folder, and the server."""
    log, _ = write_chats(tmp_path, TURNS // 3)
    with StubServer(lambda _: error(401, "no") if len(stub.requests) > ENOUGH else level_by_content(_)) as stub:
        with pytest.raises(UserError, match="HTTP 401"):
            build(log, tmp_path / "out", stub)
        stub.behaviour = level_by_content
        yield log, tmp_path / "out" / "work", stub


def test_an_error_before_labelling_keeps_what_was_paid_for(interrupted, caplog):
    log, work, stub = interrupted
    paid, marker = totals(work / "ledger.sqlite"), work / "conversations" / "00000.json"
    whole = marker.read_text()
    assert paid["answers"] > ENOUGH // 2
    marker.write_text(whole[:30])
    with pytest.raises(UserError, match=r"00000\.json is not valid JSON"):
        build(log, work.parent, stub)
    assert totals(work / "ledger.sqlite") == paid
    marker.write_text(whole)
    before, left = len(stub.requests), TURNS - paid["answers"]
    caplog.clear()
    with caplog.at_level(logging.INFO):
        assert build(log, work.parent, stub)["labelled"] == TURNS
    assert len(stub.requests) - before == left
    assert f" of {left} turns, " in caplog.text  # what the cost is projected to


def test_what_occurs_twice_is_looked_for_once(interrupted):
    log, work, stub = interrupted
    written = (work / "shards.json").stat().st_mtime_ns
    build(log, work.parent, stub)
    assert (work / "shards.json").stat().st_mtime_ns == written


def test_settings_that_led_nowhere_can_be_changed(tmp_path):
    log = write_jsonl(tmp_path / "chats.jsonl", [{"messages": []}])
    for limit in (5, 6):
        with pytest.raises(UserError, match="holds no usable conversation"):
            build_dataset(str(log), tmp_path / "out", limit=limit, mining_window=0)


def test_a_dead_worker_leaves_everything_to_the_next_run(tmp_path):
    log, _ = write_chats(tmp_path, 60)
    command = [sys.executable, "-m", "wildreward", "build-dataset", "--source", str(log), "--mining_window", "0"]
    command += ["--output", str(tmp_path / "out"), "--num_workers", "2"]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    workers = []
    while not workers and run.poll() is None:
        workers = [p for p in psutil.Process(run.pid).children() if "spawn_main" in " ".join(p.cmdline())]
        time.sleep(0.002)
    os.kill(workers[0].pid, signal.SIGKILL)
    said = run.communicate()[1]
    assert run.returncode == 2 and "a worker process died during 'read'" in said
    assert (tmp_path / "out" / "work" / "settings.json").exists()


def test_a_labeler_that_never_answered_can_be_changed_without_reading_again(tmp_path):
    """The server's own remedy is another setting: it must not cost the hours that reading took."""
    log, _ = write_chats(tmp_path, 5)
    behaviour = lambda asked: error(404, "no such model") if asked.body["model"] == "tpyo" else level_by_content(asked)  # noqa: E731
    with StubServer(behaviour) as stub:
        options = {"base_url": stub.url, "concurrency": 2, "retry_policy": QUICK}

        def build_with(**more):
            return build_dataset(
                str(log), tmp_path / "out", labeler="llm", labeler_options=options | more, mining_window=0
            )

        with pytest.raises(UserError, match="check --base-url and the name of the model"):
            build_with(model="tpyo")
        (part,) = (tmp_path / "out" / "work" / "conversations").glob("*.parquet")
        read_at = part.stat().st_mtime_ns
        with pytest.raises(UserError, match="max_words was"):  # what was read depends on that
            build_dataset(str(log), tmp_path / "out", labeler="classifier", mining_window=0, max_words=7)
        assert build_with(model="good")["labelled"] == 15
        assert part.stat().st_mtime_ns == read_at
        with pytest.raises(UserError, match=r"labeler.temperature was 0.0, now 0.7; labeler_version was"):
            build_with(model="good", temperature=0.7)
        with pytest.raises(UserError, match=r"labeler.extra_body was '', now '\w{12}'; labeler_version") as refused:
            build_with(model="good", extra_body='{"metadata": {"key": "s3cret"}}')
        assert "s3cret" not in str(refused.value)


def test_an_answer_binds_to_its_labeler(interrupted):
    log, work, stub = interrupted
    with pytest.raises(UserError, match=r"labeler\.model was 'stub', now 'other'"):
        build_dataset(
            str(log),
            work.parent,
            labeler="llm",
            labeler_options={"model": "other", "base_url": stub.url, "retry_policy": QUICK},
            mining_window=0,
        )


def test_a_rank_that_still_asks_keeps_others_out(tmp_path):
    """Stages of a build beyond one machine hold the folder together; nobody else may buy the same answers."""
    pytest.importorskip("datatrove")
    from wildreward.dataset_builder.cluster import run_stage

    log, _ = write_chats(tmp_path, 5)
    with StubServer(level_by_content) as stub:
        options = {"model": "stub", "base_url": stub.url, "concurrency": 2, "retry_policy": QUICK}
        settings = {"labeler": "llm", "labeler_options": options, "mining_window": 0}
        job = prepare(BuildSettings(source=str(log), output=str(tmp_path / "out"), **settings))
        with FolderLock(job.work):
            bind_settings(job)
            with pytest.raises(UserError, match="another run is writing to"):
                run_stage(job, "read")
        for stage in ("read", "shard"):
            run_stage(job, stage)
        started, go_on = threading.Event(), threading.Event()

        def slowly(request):
            started.set()
            go_on.wait(30)
            return level_by_content(request)

        stub.behaviour = slowly
        rank = threading.Thread(target=run_stage, args=(job, "label"))
        rank.start()
        assert started.wait(30)
        with pytest.raises(UserError, match="another run is writing to"):
            build(log, tmp_path / "out", stub)
        with pytest.raises(UserError, match=r"another run is writing to .*work/ledger\.sqlite"):
            run_stage(job, "label")  # a rank started a second time
        go_on.set()
        rank.join(30)
        assert len(stub.requests) == 15


def test_one_rank_asks_a_paid_labeler(tmp_path):
    pytest.importorskip("datatrove")
    from wildreward.dataset_builder.cluster import run_stages
    from wildreward.dataset_builder.stages import STAGES

    class Executor:
        def __init__(self, pipeline, tasks, **_):
            self.tasks = tasks

        def run(self):
            pass

    given = {"source": str(write_chats(tmp_path, 5)[0]), "mining_window": 0}
    paid = {"labeler": "llm", "labeler_options": {"model": "stub", "base_url": "http://127.0.0.1:9/v1"}}
    for name, labeler, tasks in (("paid", paid, 1), ("free", {}, 3)):
        build = {**given, **labeler, "output": tmp_path / name}
        runs = run_stages(Executor, build, tasks=4, logging_dir=tmp_path, per_stage={"label": {"tasks": 3}})
        expected = {"read": 4, "shard": 1, "label": tasks, "mine": 4, "select": 4, "dedup": 1, "export": 1}
        assert dict(zip(STAGES, (run.tasks for run in runs), strict=True)) == expected
