"""What the Hub double does with uploads: preparing them, storing large files, and commits."""

import base64
import hashlib
import json
import re

from tests.hub_http import Exchange, Reply
from tests.hub_repo import Blob

LFS_NAMES = re.compile(r"\.(safetensors|parquet|arrow|bin|pt|pth|ckpt|gguf|zip|gz|npz|npy|pkl|pickle|h5|onnx|msgpack)$")


class Uploads(Exchange):
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
