"""What `wildreward serve` gives many callers at once, beside the ten-line server one would write.

    python benchmarks/serve.py [--model runs/quickstart/reward-model] [--dataset runs/quickstart/dataset]

Model and chats are by default those that `make quickstart` leaves. Both serve the same model in a process of their own, and
are asked for the same chats. The plain server calls `RewardScorer.score` in its handler, request by request. First many
clients ask for one conversation at a time: how many are scored a second, and how long a client waits. Then one client asks
for single conversations while another's request with hundreds is under way: how long it waits.
"""

import argparse
import asyncio
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
from record import record

from wildreward.training.reward_data import load_rows

Chat = list[dict[str, str]]
TIMEOUT = 600


def serve_plainly(model: str, port: int) -> None:
    """The alternative: no queue, no thread, no limits."""
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    from wildreward import RewardScorer

    scorer = RewardScorer.from_pretrained(model)

    async def health(request: Request) -> JSONResponse:
        return JSONResponse({})

    async def score(request: Request) -> JSONResponse:
        return JSONResponse({"scores": scorer.score((await request.json())["messages"])})

    routes = [Route("/health", health), Route("/score", score, methods=["POST"])]
    uvicorn.run(Starlette(routes=routes), port=port, log_level="warning")


@contextmanager
def running(command: list[str], port: int) -> Iterator[str]:
    """A server process, from when it answers until it is no longer needed: its address."""
    process, url = subprocess.Popen([sys.executable, *command]), f"http://127.0.0.1:{port}"
    try:
        while True:
            try:
                httpx2.get(f"{url}/health").raise_for_status()
                break
            except httpx2.TransportError:
                if process.poll() is not None:
                    sys.exit(f"{' '.join(command)} ended with exit code {process.returncode}")
                time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


async def ask(client: httpx2.AsyncClient, chats: list[Chat]) -> tuple[list[float], float]:
    """The scores, and the seconds they took."""
    start = time.perf_counter()
    answer = await client.post("/score", json={"messages": chats})
    answer.raise_for_status()
    return answer.json()["scores"], time.perf_counter() - start


async def many_clients(url: str, chats: list[Chat], clients: int) -> tuple[list[float], float, list[float]]:
    """Scores of all chats, asked for one at a time by each client; seconds in all, and of each request."""
    scores, waits = [0.0] * len(chats), [0.0] * len(chats)
    async with httpx2.AsyncClient(base_url=url, timeout=TIMEOUT) as client:
        await ask(client, chats[:1])
        start, left = time.perf_counter(), iter(range(len(chats)))

        async def work() -> None:
            for place in left:
                (scores[place],), waits[place] = await ask(client, [chats[place]])

        await asyncio.gather(*(work() for _ in range(clients)))
        return scores, time.perf_counter() - start, waits


async def beside_a_large_request(url: str, chats: list[Chat]) -> list[float]:
    """Seconds that single conversations take, one after the other, while all chats are scored for somebody else."""
    waits = []
    async with httpx2.AsyncClient(base_url=url, timeout=TIMEOUT) as client:
        await ask(client, chats[:1])
        large = asyncio.create_task(ask(client, chats))
        await asyncio.sleep(0.2)
        place = 0
        while not large.done():
            waits.append((await ask(client, [chats[place % len(chats)]]))[1])
            place += 1
        await large
    return waits


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="runs/quickstart/reward-model")
    parser.add_argument("--dataset", default="runs/quickstart/dataset")
    parser.add_argument("--chats", type=int, default=512)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--plain-server", type=int, default=None, metavar="PORT", help=argparse.SUPPRESS)
    wants = parser.parse_args()
    if wants.plain_server:
        serve_plainly(wants.model, wants.plain_server)
        return
    rows = load_rows(wants.dataset, "train")
    chats = [[*(row["history"] or []), *row["messages"]] for row in rows.select(range(min(wants.chats, len(rows))))]
    rates, middles, told = {}, {}, {}
    for name in ("serve", "plain"):
        port = free_port()
        command = ["-m", "wildreward", "serve", "--model", wants.model, "--port", str(port)]
        if name == "plain":
            command = [__file__, "--model", wants.model, "--plain-server", str(port)]
        with running(command, port) as url:
            told[name], seconds, waits = asyncio.run(many_clients(url, chats, wants.clients))
            rates[name] = len(chats) / seconds
            print(
                f"{name}, {wants.clients} clients: {rates[name]:.1f} conversations/s; "
                f"a client waits {statistics.median(waits):.2f} s, 99th percentile {percentile(waits, 0.99):.2f} s"
            )
            waits = asyncio.run(beside_a_large_request(url, chats))
            middles[name] = statistics.median(waits)
            print(
                f"{name}, beside a request of {len(chats)}: a client waits {middles[name]:.2f} s in the middle, "
                f"{max(waits):.2f} s at most ({len(waits)} requests)"
            )
    apart = max(abs(one - other) for one, other in zip(told["serve"], told["plain"], strict=True))
    assert apart < 1e-3, f"scores differ by {apart}"
    print(
        f"ratio: {rates['serve'] / rates['plain']:.2f} conversations/s, {middles['plain'] / middles['serve']:.1f} wait"
    )
    alternative = "alternative: a server that scores in its handler"
    measures = (
        (f"conversations scored a second for {wants.clients} clients; {alternative}", rates),
        (f"seconds that one conversation takes beside a request of {len(chats)}; {alternative}", middles),
    )
    record(
        "serve",
        [
            {
                "measure": measure,
                "ours": found["serve"],
                "alternative": found["plain"],
                "ratio": found["serve"] / found["plain"] if found is rates else found["plain"] / found["serve"],
            }
            for measure, found in measures
        ],
    )


if __name__ == "__main__":
    main()
