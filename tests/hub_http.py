"""The plumbing of the Hub double: requests and answers over HTTP, injected faults, and who may do what."""

import json
import re
import socket
import struct
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, unquote, urlsplit


class Reply(Exception):
    """An answer that is not 200, raised from wherever it is found out."""

    def __init__(self, status, message="", code=None, headers=None):
        self.status, self.message, self.code, self.headers = status, message, code, headers or {}


class Exchange(BaseHTTPRequestHandler):
    """One request and its answer; `_route` of a subclass returns the JSON to send, sends it itself, or raises `Reply`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # otherwise each answer waits 40 ms for the client to confirm its headers
    hub = None  # the HubDouble it serves, set on a subclass

    def log_message(self, *_):
        pass

    def do_GET(self):
        self._serve()

    do_POST = do_PUT = do_HEAD = do_DELETE = do_GET

    # -- one request ---------------------------------------------------------------------------------------------

    def _serve(self):
        url = urlsplit(self.path)
        self.query = {key: values[-1] for key, values in parse_qs(url.query).items()}
        self.parts = [unquote(part) for part in url.path.strip("/").split("/")]
        self.body_read = False
        self.hub.requests.append((self.command, unquote(url.path)))
        if self.headers.get("Host", "").startswith("localhost") and self.headers.get("Authorization"):
            self.hub.leaked_tokens.append(self.path)
        try:
            answer = self._route()
        except Reply as reply:
            self._drain()
            extra = dict(reply.headers)
            if reply.code:
                extra["X-Error-Code"] = reply.code
            if reply.message:
                extra["X-Error-Message"] = reply.message
            self._send(reply.status, json.dumps({"error": reply.message}).encode(), extra)
        except ConnectionError:
            self.close_connection = True
        else:
            if answer is not None:
                self._drain()
                self._send(200, json.dumps(answer).encode(), {})

    def _send(self, status, body, headers, kind="application/json"):
        try:
            self.send_response(status)
            headers = {"Content-Type": kind, "Content-Length": str(len(body)), **headers}
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)
        except ConnectionError:
            self.close_connection = True

    def _length(self):
        return int(self.headers.get("Content-Length") or 0)

    def _body(self, place=None):
        """The request's body; with a fault due at `place`, only half of it is read before the fault strikes."""
        action = self.hub.strike(place) if place else None
        if action is not None:
            self.rfile.read(self._length() // 2)
            self._fail(action)
        self.body_read = True
        if self.headers.get("Transfer-Encoding") == "chunked":
            data = b""
            while size := int(self.rfile.readline().strip() or b"0", 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data
        data = self.rfile.read(self._length())
        if len(data) < self._length():
            raise ConnectionError("the client went away in the middle of a body")
        return data

    def _drain(self):
        if not self.body_read and self.command in ("POST", "PUT", "DELETE"):
            self._body()

    def _fail(self, action):
        self.hub.reached.set()
        if isinstance(action, int):
            self.close_connection = True
            self.body_read = True
            raise Reply(action, "fault injected")
        if action == "hang":
            self.connection.settimeout(60)
            while True:
                if not self.connection.recv(65536):
                    raise ConnectionError("the client went away")
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()
        raise ConnectionError("dropped")

    def _after(self, place):
        if (action := self.hub.strike(place)) is not None:
            self._fail(action)

    # -- who may do what -----------------------------------------------------------------------------------------

    def _who(self):
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ").strip()
        if not token:
            return None
        if token not in (self.hub.token, self.hub.read_token):
            raise Reply(401, "Invalid credentials in Authorization header")
        return token

    def _repo(self, kind, name, write=False):
        who, repo = self._who(), self.hub.repos.get((kind, name))
        if repo is None or (repo.private and not who):
            raise Reply(404 if who else 401, "Repository not found", "RepoNotFound")
        if write and not who:
            raise Reply(401, "Invalid username or password.")
        if write and (who == self.hub.read_token or not name.startswith(f"{self.hub.user}/")):
            raise Reply(403, "Forbidden: you must use a write token to upload to a repository.")
        return repo

    def _commit(self, repo, revision):
        commit = repo.find(revision)
        if commit is None:
            raise Reply(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit

    # -- files ----------------------------------------------------------------------------------------------------

    def _send_content(self, content, headers):
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if wanted:
            first, last = int(wanted[1]), min(int(wanted[2] or len(content) - 1), len(content) - 1)
            if first >= len(content):
                raise Reply(416, "range not satisfiable")
            headers = {**headers, "Content-Range": f"bytes {first}-{last}/{len(content)}"}
            return self._send(206, content[first : last + 1], headers, "application/octet-stream")
        return self._send(200, content, headers, "application/octet-stream")
