"""The HTTP side of the Hub double: one handler, a method for each kind of request the real clients make."""

import base64
import hashlib
import json
import re
import socket
import struct
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

from tests.hub_repo import Blob, Repo, now

LFS_NAMES = re.compile(r"\.(safetensors|parquet|arrow|bin|pt|pth|ckpt|gguf|zip|gz|npz|npy|pkl|pickle|h5|onnx|msgpack)$")
GITATTRIBUTES = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n*.parquet filter=lfs diff=lfs merge=lfs -text\n"
FRONT_MATTER = re.compile(r"\A\s*---\r?\n(.*?)\r?\n---", re.DOTALL)


class Reply(Exception):
    """An answer that is not 200, raised from wherever it is found out."""

    def __init__(self, status, message="", code=None, headers=None):
        self.status, self.message, self.code, self.headers = status, message, code, headers or {}


class Handler(BaseHTTPRequestHandler):
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

    ENDPOINTS = {
        "info": "_info", "revision": "_revision_info", "refs": "_refs", "commits": "_commits", "tree": "_tree",
        "paths-info": "_paths_info", "preupload": "_preupload", "commit": "_commit_api", "lfs-verify": "_lfs_verify",
        "discussions": "_discussions",
    }  # fmt: skip

    # -- routes --------------------------------------------------------------------------------------------------

    def _route(self):
        p = self.parts
        if p[0] == "api":
            return self._api(p[1:])
        if p[0] == "storage":
            return self._storage(p[1:])
        kind = p.pop(0) if p[0] in ("datasets", "spaces") else "models"
        if len(p) >= 2 and p[1].endswith(".git") and p[2:] == ["info", "lfs", "objects", "batch"]:
            return self._lfs_batch(self._repo(kind, f"{p[0]}/{p[1].removesuffix('.git')}", write=True))
        if len(p) > 4 and p[2] in ("resolve", "raw"):
            return self._resolve(self._repo(kind, f"{p[0]}/{p[1]}"), *self._revision(p[3:]))
        raise Reply(404, f"no such page: {self.path}")

    @staticmethod
    def _revision(parts):
        """`refs/pr/1` may arrive as one quoted part or as three."""
        if parts[:2] == ["refs", "pr"]:
            return "/".join(parts[:3]), "/".join(parts[3:])
        return parts[0], "/".join(parts[1:])

    def _api(self, p):
        if p == ["whoami-v2"]:
            return self._whoami()
        if p == ["validate-yaml"]:
            return self._validate_yaml()
        if p == ["repos", "create"]:
            return self._create_repo()
        if p[0] in ("models", "datasets", "spaces") and len(p) >= 3:
            kind, name, what, rest = p[0], f"{p[1]}/{p[2]}", (p[3] if len(p) > 3 else "info"), p[4:]
            write = what in ("preupload", "commit") or (what == "discussions" and self.command == "POST")
            repo = self._repo(kind, name, write)
            if what in self.ENDPOINTS:
                return getattr(self, self.ENDPOINTS[what])(repo, *rest)
        raise Reply(404, f"no such endpoint: {self.path}")

    def _whoami(self):
        who = self._who()
        if who is None:
            raise Reply(401, "Invalid username or password.")
        role = "write" if who == self.hub.token else "read"
        token = {"type": "access_token", "accessToken": {"displayName": "double", "role": role}}
        return {"type": "user", "id": "1", "name": self.hub.user, "fullname": "A User", "orgs": [], "auth": token}

    def _validate_yaml(self):
        front = FRONT_MATTER.match(json.loads(self._body())["content"])
        try:
            metadata = yaml.safe_load(front.group(1)) if front else {}
        except yaml.YAMLError as error:
            self._send(400, json.dumps({"errors": [{"message": str(error)}], "warnings": []}).encode(), {})
            return None
        if not isinstance(metadata, dict | None):
            self._send(400, json.dumps({"errors": [{"message": "not a mapping"}], "warnings": []}).encode(), {})
            return None
        return {"errors": [], "warnings": []}

    def _create_repo(self):
        asked, who = json.loads(self._body("create_repo")), self._who()
        if who is None:
            raise Reply(401, "Invalid username or password.")
        owner = asked.get("organization") or self.hub.user
        if who == self.hub.read_token or owner != self.hub.user:
            raise Reply(403, f"You don't have the rights to create a repo under the namespace {owner!r}")
        kind, name = f"{asked.get('type') or 'model'}s", f"{owner}/{asked['name']}"
        url = f"{self.hub.url}/{'' if kind == 'models' else kind + '/'}{name}"
        with self.hub.lock:
            if (kind, name) in self.hub.repos:
                body = {"error": "You already created this repo", "url": url}
                self._send(409, json.dumps(body).encode(), {})
                return None
            private = asked.get("visibility") == "private" or bool(asked.get("private"))
            repo = self.hub.repos[kind, name] = Repo(kind, name, private)
            repo.commit("refs/heads/main", {".gitattributes": Blob(GITATTRIBUTES, False)}, "initial commit")
        return {"url": url, "name": name}

    def _info(self, repo):
        return self._revision_info(repo, "main")

    def _revision_info(self, repo, revision):
        commit = self._commit(repo, revision)
        siblings = []
        for path, blob in sorted(commit.files.items()):
            entry = {"rfilename": path}
            if "blobs" in self.query:
                entry |= {"size": len(blob.content), "blobId": blob.git_oid}
                entry |= (
                    {"lfs": {"sha256": blob.sha256, "size": len(blob.content), "pointerSize": 130}} if blob.lfs else {}
                )
            siblings.append(entry)
        front = FRONT_MATTER.match(commit.files["README.md"].content.decode()) if "README.md" in commit.files else None
        card = (yaml.safe_load(front.group(1)) if front else None) or {}
        return {
            "_id": "1", "id": repo.name, "modelId": repo.name, "author": self.hub.user, "sha": commit.sha,
            "lastModified": commit.date, "createdAt": commit.date, "private": repo.private, "gated": False,
            "disabled": False, "downloads": 0, "likes": 0, "tags": card.get("tags") or [], "cardData": card,
            "siblings": siblings, "pipeline_tag": card.get("pipeline_tag"), "library_name": card.get("library_name"),
        }  # fmt: skip

    def _refs(self, repo):
        branches = [{"name": "main", "ref": "refs/heads/main", "targetCommit": repo.refs["refs/heads/main"]}]
        pulls = [
            {"name": f"pr/{n}", "ref": f"refs/pr/{n}", "targetCommit": repo.refs[f"refs/pr/{n}"]} for n in repo.pulls
        ]
        return {"branches": branches, "converts": [], "tags": [], "pullRequests": pulls}

    def _commits(self, repo, revision):
        commit, found = self._commit(repo, revision), []
        while commit:
            found.append(
                {
                    "id": commit.sha,
                    "title": commit.title,
                    "message": "",
                    "date": commit.date,
                    "authors": [{"user": "user"}],
                }
            )
            commit = repo.commits.get(commit.parent)
        return found

    def _tree(self, repo, *rest):
        revision, folder = self._revision(list(rest))
        files = self._commit(repo, revision).files
        prefix = f"{folder}/" if folder else ""
        under = {path: blob for path, blob in files.items() if path.startswith(prefix)}
        if folder and not under:
            raise Reply(404, f"{folder} does not exist on {revision!r}", "EntryNotFound")
        deep = self.query.get("recursive", "").lower() in ("true", "1")
        entries, seen = [], set()
        for path, blob in sorted(under.items()):
            names = path[len(prefix) :].split("/")
            for depth in range(1, len(names)) if deep else range(1, min(2, len(names))):
                directory = prefix + "/".join(names[:depth])
                if directory not in seen:
                    seen.add(directory)
                    oid = hashlib.sha1(directory.encode()).hexdigest()
                    entries.append({"type": "directory", "path": directory, "oid": oid, "size": 0})
            if deep or len(names) == 1:
                entries.append(blob.info(path))
        start = int(self.query.get("cursor", 0))
        page, more = entries[start : start + self.hub.page_size], start + self.hub.page_size < len(entries)
        headers = {}
        if more:
            bare = urlsplit(self.path)
            keep = "&".join(part for part in bare.query.split("&") if part and not part.startswith("cursor="))
            following = f"{self.hub.url}{bare.path}?{keep}&cursor={start + self.hub.page_size}"
            headers["Link"] = f'<{following}>; rel="next"'
        self._send(200, json.dumps(page).encode(), headers)

    def _paths_info(self, repo, revision):
        body = self._body()
        asked = parse_qs(body.decode()).get("paths", []) if body[:1] != b"{" else json.loads(body)["paths"]
        files, found = self._commit(repo, revision).files, []
        for path in asked:
            if path in files:
                found.append(files[path].info(path))
            elif any(other.startswith(f"{path.strip('/')}/") for other in files):
                oid = hashlib.sha1(path.encode()).hexdigest()
                found.append({"type": "directory", "path": path.strip("/"), "oid": oid, "size": 0})
        return found

    def _resolve(self, repo, revision, path):
        self._after("resolve")
        commit = self._commit(repo, revision)
        blob = commit.files.get(path)
        if blob is None:
            raise Reply(404, "Entry not found", "EntryNotFound", {"X-Repo-Commit": commit.sha})
        headers = {"X-Repo-Commit": commit.sha, "ETag": f'"{blob.git_oid}"', "Accept-Ranges": "bytes"}
        if blob.lfs:
            headers |= {"X-Linked-Etag": f'"{blob.sha256}"', "X-Linked-Size": str(len(blob.content))}
            raise Reply(302, "", None, {**headers, "Location": f"{self.hub.storage_url}/storage/{blob.sha256}"})
        self._send_content(blob.content, headers)

    def _send_content(self, content, headers):
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if wanted:
            first, last = int(wanted[1]), min(int(wanted[2] or len(content) - 1), len(content) - 1)
            if first >= len(content):
                raise Reply(416, "range not satisfiable")
            headers = {**headers, "Content-Range": f"bytes {first}-{last}/{len(content)}"}
            return self._send(206, content[first : last + 1], headers, "application/octet-stream")
        return self._send(200, content, headers, "application/octet-stream")

    # -- uploads -------------------------------------------------------------------------------------------------

    def _preupload(self, repo, revision):
        files, found = self._commit(repo, revision).files, []
        for file in json.loads(self._body())["files"]:
            sample = base64.b64decode(file["sample"])
            lfs = bool(LFS_NAMES.search(file["path"])) or file["size"] > 10 * 2**20 or b"\0" in sample
            entry = {"path": file["path"], "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False}
            if blob := files.get(file["path"]):
                entry["oid"] = blob.sha256 if blob.lfs else blob.git_oid
            found.append(entry)
        return {"files": found, "commitOid": self._commit(repo, revision).sha}

    def _lfs_batch(self, repo):
        objects = []
        for asked in json.loads(self._body())["objects"]:
            oid, size = asked["oid"], asked["size"]
            entry = {"oid": oid, "size": size}
            if oid not in self.hub.lfs:
                upload = {"href": f"{self.hub.storage_url}/storage/{oid}", "header": {}}
                if self.hub.multipart_above and size > self.hub.multipart_above:
                    chunk = self.hub.multipart_above
                    upload = {
                        "href": f"{self.hub.storage_url}/storage/complete/{oid}",
                        "header": {"chunk_size": str(chunk)},
                    }
                    for number in range(1, -(-size // chunk) + 1):
                        upload["header"][str(number)] = f"{self.hub.storage_url}/storage/{oid}/{number}"
                verify = {"href": f"{self.hub.url}/api/{repo.kind}/{repo.name}/lfs-verify"}
                entry["actions"] = {"upload": upload, "verify": verify}
            objects.append(entry)
        return {"transfer": "basic", "objects": objects, "hash_algo": "sha256"}

    def _storage(self, p):
        if p[0] == "complete":
            pieces = [self.hub.parts[p[1], part["partNumber"]] for part in json.loads(self._body())["parts"]]
            return self._store(p[1], b"".join(pieces))
        if self.command == "PUT":
            data = self._body("lfs_put")
            if len(p) == 2:
                self.hub.parts[p[0], int(p[1])] = data
                return self._send(200, b"", {"ETag": f'"{hashlib.md5(data).hexdigest()}"'})
            return self._store(p[0], data)
        if p[0] not in self.hub.lfs:
            raise Reply(404, "no such object")
        return self._send_content(self.hub.lfs[p[0]], {"ETag": f'"{p[0]}"', "Accept-Ranges": "bytes"})

    def _store(self, oid, data):
        if hashlib.sha256(data).hexdigest() != oid:
            raise Reply(400, "content does not match its name")
        self.hub.lfs[oid] = data
        return {"success": True}

    def _lfs_verify(self, repo):
        asked = json.loads(self._body())
        if len(self.hub.lfs.get(asked["oid"], b"")) != asked["size"]:
            raise Reply(404, "object was not uploaded")
        return {}

    def _commit_api(self, repo, revision):
        lines = [json.loads(line) for line in self._body("commit").splitlines() if line.strip()]
        with self.hub.lock:
            header, files = lines[0]["value"], dict(self._commit(repo, revision).files)
            for line in lines[1:]:
                self._apply(files, line["key"], line["value"])
            ref = {"main": "refs/heads/main"}.get(revision, revision)
            parent = header.get("parentCommit")
            if parent and parent != repo.refs[ref]:
                raise Reply(412, "A commit has happened since. Please refresh and try again.")
            answer = {"success": True, "hookOutput": ""}
            if self.query.get("create_pr"):
                number = self._open_pull(repo, header["summary"], "open")
                ref, answer["pullRequestUrl"] = f"refs/pr/{number}", f"{self.hub.url}/{repo.name}/discussions/{number}"
            sha = repo.commit(ref, files, header["summary"])
        self._after("commit_done")
        return {**answer, "commitOid": sha, "commitUrl": f"{self.hub.url}/{repo.name}/commit/{sha}"}

    def _apply(self, files, key, value):
        path = value["path"]
        if key == "file":
            files[path] = Blob(base64.b64decode(value["content"]), False)
        elif key == "lfsFile":
            if value["oid"] not in self.hub.lfs:
                raise Reply(400, f"LFS pointer points to a file that does not exist: {path}")
            files[path] = Blob(self.hub.lfs[value["oid"]], True)
        elif key == "deletedFile":
            if files.pop(path, None) is None:
                raise Reply(404, "A file with this name doesn't exist", "EntryNotFound")
        elif key == "deletedFolder":
            for name in [name for name in files if name.startswith(path.rstrip("/") + "/")]:
                del files[name]

    # -- pull requests -------------------------------------------------------------------------------------------

    def _open_pull(self, repo, title, status):
        number = len(repo.pulls) + 1
        base = repo.refs["refs/heads/main"]
        repo.refs[f"refs/pr/{number}"] = base
        repo.pulls[number] = {
            "num": number, "title": title, "status": status, "isPullRequest": True, "createdAt": now(),
            "author": {"name": self.hub.user}, "repo": {"name": repo.name, "type": repo.kind[:-1]},
            "base": base, "events": [], "mergeCommitId": None,
        }  # fmt: skip
        return number

    def _discussions(self, repo, number=None, action=None):
        if number is None and self.command == "POST":
            asked = json.loads(self._body())
            with self.hub.lock:
                return {"num": self._open_pull(repo, asked["title"], "draft")}
        if number is None:
            status = self.query.get("status")
            groups = {"open": ("open", "draft"), "closed": ("closed", "merged")}
            found = [pull for pull in repo.pulls.values() if not status or pull["status"] in groups[status]]
            return {"count": len(found), "start": 0, "discussions": found}
        pull = repo.pulls.get(int(number))
        if pull is None:
            raise Reply(404, "no such discussion")
        if action is None:
            merged = {"base": "refs/heads/main", "mergeCommitId": pull["mergeCommitId"]}
            return {**pull, "changes": merged, "filesWithConflicts": repo.merged(pull)[1], "diff": ""}
        with self.hub.lock:
            return self._change_pull(repo, pull, action)

    def _change_pull(self, repo, pull, action):
        asked = json.loads(self._body(action) or b"{}")
        if action == "merge":
            if pull["status"] != "open":
                raise Reply(400, f"Pull request cannot be merged: its status is {pull['status']}")
            files, conflicts = repo.merged(pull)
            if conflicts:
                raise Reply(409, f"Pull request has conflicts: {conflicts}")
            pull["mergeCommitId"] = repo.commit("refs/heads/main", files, f"{pull['title']} (#{pull['num']})")
            pull["status"] = "merged"
            self._after("merge_done")
        elif action == "status":
            if pull["status"] == "merged":
                raise Reply(400, "Pull request is merged")
            pull["status"] = asked["status"]
        event = {"id": "1", "createdAt": now(), "author": pull["author"], "data": {"status": pull["status"]}}
        return {"newStatus": {**event, "type": "status-change"}}
