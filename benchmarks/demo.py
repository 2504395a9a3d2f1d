"""Time and memory of the app: `python benchmarks/demo.py --run runs/quickstart [--interactions 6000]`.

A client asks the running app as a browser does, over HTTP, in this process: scores of two answers, rows of the dataset, searches,
chosen at random. Printed: seconds an interaction (median, 99th percentile, most) of each kind, and the process' memory
after each sixth.
"""

import argparse
import json
import random
import socket
import time
import urllib.request
from collections import defaultdict

import numpy as np
import psutil

from wildreward.demo.app import LAUNCH, build_app
from wildreward.demo.settings import DemoConfig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", required=True)
    parser.add_argument("--interactions", type=int, default=6000)
    options = parser.parse_args()
    app = build_app(DemoConfig(run=options.run))
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
    app.launch(server_port=port, prevent_thread_lock=True, **LAUNCH)
    functions = events(app.get_config_file())
    random.seed(0)
    seconds, memory, process = defaultdict(list), {}, psutil.Process()
    for number in range(options.interactions):
        session = f"session{number % 300}"  # more than are kept
        kind = random.choice(list(functions))
        start = time.monotonic()
        said = ask(port, functions[kind], arguments(kind), session)
        seconds[kind].append(time.monotonic() - start)
        if "error" in said:
            raise SystemExit(f"{kind}: {said}")
        if (number + 1) % max(1, options.interactions // 6) == 0:
            memory[number + 1] = process.memory_info().rss / 2**20
    for kind, taken in seconds.items():
        print(
            f"{kind}: {len(taken)} times, seconds " + " ".join(f"{np.percentile(taken, q):.3f}" for q in (50, 99, 100))
        )
    print("memory in MB after " + ", ".join(f"{number:,} interactions {size:,.0f}" for number, size in memory.items()))


def events(config: dict) -> dict[str, int]:
    """What a person does → number of the function that answers."""
    labels = {c["id"]: c["props"].get("value") or c["props"].get("label") for c in config["components"]}
    titles = {c["id"]: c["type"] for c in config["components"]}
    found = {}
    for dependency in config["dependencies"]:
        for target, event in dependency["targets"]:
            if event == "click" and titles[target] == "button":
                found.setdefault(str(labels[target]), dependency["id"])
            if event == "submit" and labels[target] == "Search":
                found["Search"] = dependency["id"]
    found.pop("More answers", None)
    return found


def arguments(kind: str) -> list:
    if kind == "Score":
        words = [
            random.choice(("good", "code", "list", "why", "thanks", "spider")) for _ in range(random.randint(1, 300))
        ]
        return [f"Question {random.random()}", " ".join(words), " ".join(reversed(words)), "", ""]
    search = f"{random.choice('abcdefgh')}{random.choice('aeiou')}{random.randint(0, 9)}" if kind == "Search" else ""
    return [random.randint(0, 10), search, "any", "any", "any", "any"]


def ask(port: int, function: int, data: list, session: str) -> str:
    """What the app answers to one event, over the queue's event stream."""
    root = f"http://127.0.0.1:{port}/gradio_api/queue"
    body = {"data": data, "fn_index": function, "session_hash": session}
    request = urllib.request.Request(f"{root}/join", json.dumps(body).encode(), {"Content-Type": "application/json"})
    urllib.request.urlopen(request).read()
    with urllib.request.urlopen(f"{root}/data?session_hash={session}") as stream:
        for line in stream:
            if line.startswith(b"data:"):
                told = json.loads(line[5:])
                if told["msg"] == "process_completed":
                    return "done" if told["success"] else f"error {told['output']}"
    return "error: no answer"


main()
