"""Rows for the tests of labelers that ask a server, and a way to ask about them."""

import time

from tests.llm_stub import Reply, Request, chat
from wildreward.common.llm.client import RetryPolicy
from wildreward.dataset_builder.labelers import base
from wildreward.dataset_builder.labelers.llm import LlmLabeler

QUICK = RetryPolicy(attempt_seconds=5, row_seconds=30, stall_seconds=10, first_pause=0.01, longest_pause=0.05)
LEVEL_2 = Reply(chat('{"level": 2}'))


def rows(count, task="feedback"):
    return [
        base.Request(f"key{n}", f"c{n}_turn0", task, (), f"question {n}", f"answer {n}", f"follow-up {n}")
        for n in range(count)
    ]


def ask(stub, requests, **options):
    options = {"model": "stub", "base_url": stub.url, "concurrency": 8, "retry_policy": QUICK} | options
    with LlmLabeler(**options) as labeler:
        return {answer.key: answer for answer in labeler.label_many(requests)}


def row_of(request: Request) -> int:
    return int(request.prompt.split('"question ')[1].split('"')[0])


def wait_until(condition, seconds=5):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    assert condition()
