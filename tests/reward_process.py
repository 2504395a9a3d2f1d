"""A reward server as a process of its own, to be killed and stopped: `python -m tests.reward_process PORT SECONDS`.

It answers `/score` and `/get_reward` with the share of words in a or b of what it is asked about, after some seconds, and
writes a line for each request.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def share_of_ab(text: str) -> float:
    words = text.split()
    return sum(word[0] in "ab" for word in words) / max(1, len(words))


class RewardProcess:
    """The server's process; `asked` counts its requests."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.port, self.asked = seconds, 0, 0
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.reward_process", str(self.port), str(self.seconds)]
        self.child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.port = int(self.child.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}/score"
        threading.Thread(target=self._count, args=(self.child,), daemon=True).start()

    def _count(self, child: subprocess.Popen) -> None:
        for _ in child.stdout:
            self.asked += 1

    def signal(self, number: int) -> None:
        os.kill(self.child.pid, number)
        if number == signal.SIGKILL:
            assert self.child.wait() == -signal.SIGKILL


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        print("asked", flush=True)
        time.sleep(float(sys.argv[2]))
        scores = [share_of_ab(text) for text in body.get("query", [])]
        scores += [share_of_ab(messages[-1]["content"]) for messages in body.get("messages", [])]
        answer = {"scores": scores, "rewards": scores, "level_probs": [[0.25] * 4] * len(scores)}
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()
