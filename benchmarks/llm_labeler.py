"""How near the `llm` labeler comes to the request rate its concurrency allows, beside a plain loop over the client.

    python benchmarks/llm_labeler.py

A stub server in a process of its own answers every request after 500 ms. 128 requests under way at once make an ideal of
256 requests a second. Ours builds the prompt, checks and reads every reply; the plain loop is what one would write in
ten lines: 128 tasks around `await client.chat.completions.create(...)`, with a prompt of the same length.
"""

import argparse
import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from record import record

from wildreward.common.llm.quoting import Budget, ChatMessage
from wildreward.dataset_builder.labelers.base import Request
from wildreward.dataset_builder.labelers.llm import LlmLabeler
from wildreward.dataset_builder.labelers.prompts import chat_messages, request_record

STUB = Path(__file__).parent.parent / "tests" / "llm_stub.py"


def requests(count: int) -> Iterator[Request]:
    """Rows about as long as those of real chats: 3,500 characters of conversation."""
    history = (ChatMessage("user", "How do I sort a list? " * 10), ChatMessage("assistant", "Use sorted(). " * 50))
    for number in range(count):
        answer = "The list is sorted by its second column here. " * 40
        yield Request(
            str(number), f"{number}_turn1", "feedback", history, f"{number}: and by a column?", answer, "Thanks!"
        )


def run_ours(url: str, count: int, concurrency: int) -> tuple[float, float]:
    """Seconds of wall clock and of CPU for `count` rows through the labeler."""
    with LlmLabeler("stub", base_url=url, concurrency=concurrency) as labeler:
        wall, cpu = time.perf_counter(), time.process_time()
        levels = [answer.level for answer in labeler.label_many(requests(count))]
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    assert levels == [3] * count, f"{levels.count(None)} rows without a level"
    return wall, cpu


def run_plain(url: str, count: int, concurrency: int) -> tuple[float, float]:
    """The same with the client's defaults in a plain loop; prompts are made beforehand."""
    import openai

    messages = [chat_messages("feedback", request_record(request, Budget())) for request in requests(count)]

    async def main() -> None:
        source = iter(messages)

        async def worker() -> None:
            for prompt in source:
                reply = await client.chat.completions.create(
                    model="stub", messages=prompt, temperature=0, max_tokens=1024
                )
                assert reply.choices[0].message.content == '{"level": 3}'

        async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
            await asyncio.gather(*(worker() for _ in range(concurrency)))

    wall, cpu = time.perf_counter(), time.process_time()
    asyncio.run(main())
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=5120, help="requests for each contender")
    parser.add_argument("--concurrency", type=int, default=128)
    parser.add_argument("--delay", type=float, default=0.5, help="seconds the stub takes to answer")
    arguments = parser.parse_args()
    stub = subprocess.Popen(
        [sys.executable, str(STUB), "--fixed", "--delay", str(arguments.delay)], stdout=subprocess.PIPE, text=True
    )
    try:
        url = stub.stdout.readline().strip()
        ideal = arguments.concurrency / arguments.delay
        rates = {}
        for name, run in (("llm labeler", run_ours), ("plain loop", run_plain)):
            wall, cpu = run(url, arguments.count, arguments.concurrency)
            rates[name] = arguments.count / wall
            share = rates[name] / ideal
            print(
                f"{name}: {rates[name]:6.1f} requests/s, {share:.1%} of {ideal:.0f}, {cpu / arguments.count * 1e3:.2f} ms CPU each"
            )
        ratio = rates["llm labeler"] / rates["plain loop"]
        print(f"ratio: {ratio:.2f}")
        measure = f"labeling requests a second, of {ideal:.0f} possible; alternative: a loop over the client"
        row = {"measure": measure, "ours": rates["llm labeler"], "alternative": rates["plain loop"], "ratio": ratio}
        record("llm_labeler", [row])
    finally:
        stub.terminate()
        stub.wait()


if __name__ == "__main__":
    main()
