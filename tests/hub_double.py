"""A Hub for tests: speaks the HTTP API of huggingface.co well enough for the real `huggingface_hub`, `transformers` and
`datasets` to push to it and pull from it, over real sockets, offline.

    with HubDouble() as hub:
        api = HfApi(endpoint=hub.url, token=hub.token)                 # in this process
        subprocess.run([...], env={**os.environ, **hub.env(tmp_path)})  # in another one

Large files go through git-LFS (basic or multipart); Xet is switched off by `env`. Large files are served from another
host name ("localhost") like the Hub's own storage, so a token sent there is noticed (`hub.leaked_tokens`).

Faults: `hub.faults.append(Fault("lfs_put", nth=2, action="drop"))`. Places: `lfs_put` and `commit` (half of the body is
read, then the fault strikes), `commit_done` and `merge_done` (the work is done, the answer is lost), `create_repo`,
`merge`, `resolve`. Actions: "drop" (connection reset), "hang" (until the client goes away; `hub.reached` is set), or an
HTTP status.
"""

import dataclasses
import os
import re
import threading
import time
from http.server import ThreadingHTTPServer
from pathlib import Path

from tests.hub_api import Handler


@dataclasses.dataclass
class Fault:
    place: str
    nth: int = 1
    """Strikes at the nth time the place is reached after the fault was added (counted from 1)."""
    action: str | int = "drop"
    times: int = 1


class HubDouble:
    def __init__(self, user="user", token="hf_double_write", multipart_above=None, page_size=1000):
        self.user, self.token, self.read_token = user, token, "hf_double_read"
        self.multipart_above, self.page_size = multipart_above, page_size
        self.repos, self.lfs, self.parts = {}, {}, {}
        self.faults, self.requests, self.leaked_tokens = [], [], []
        self.reached = threading.Event()
        self.lock = threading.RLock()

    def __enter__(self):
        handler = type("Handler", (Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.storage_url = f"http://localhost:{self.port}"
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()

    def env(self, hf_home, token=True):
        """Environment for another process: this Hub, an empty cache, no Xet, nothing that makes it work offline."""
        env = {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(hf_home),
            "HF_HUB_CACHE": str(Path(hf_home, "hub")),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "*",
        }
        return {**env, "HF_TOKEN": self.token} if token else env

    def repo(self, name, kind="models"):
        return self.repos[kind, name]

    def count(self, method, pattern):
        """How many requests with this method had a path matching the regular expression."""
        return sum(m == method and re.search(pattern, path) is not None for m, path in self.requests)

    def strike(self, place):
        """The action of a fault that is due at this place, if any."""
        with self.lock:
            for fault in self.faults:
                if fault.place != place or fault.times == 0:
                    continue
                fault.nth -= 1
                if fault.nth <= 0:
                    fault.times -= 1
                    return fault.action
        return None


def wait_for(condition, seconds=30):
    """Poll until `condition()` is true; the test fails when it never is."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not reached within {seconds} s"
        time.sleep(0.02)


def clean_env(**extra):
    """This process's environment without anything about a Hub."""
    return {**{key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}, **extra}
