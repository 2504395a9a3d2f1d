"""The HTTP side of the Hub double: one handler, a method for each kind of request the real clients make."""

import hashlib
import json
import re
from urllib.parse import parse_qs, urlsplit

import yaml

from tests.hub_http import Reply
from tests.hub_repo import Blob, Repo, now
from tests.hub_uploads import Uploads

GITATTRIBUTES = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n*.parquet filter=lfs diff=lfs merge=lfs -text\n"
FRONT_MATTER = re.compile(r"\A\s*---\r?\n(.*?)\r?\n---", re.DOTALL)


class Handler(Uploads):
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
