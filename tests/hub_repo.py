"""Repositories of the Hub double: blobs, commits, refs and pull requests, kept in memory."""

import dataclasses
import hashlib
from datetime import UTC, datetime


@dataclasses.dataclass(frozen=True)
class Blob:
    content: bytes
    lfs: bool

    @property
    def sha256(self):
        return hashlib.sha256(self.content).hexdigest()

    @property
    def git_oid(self):
        data = self.content
        if self.lfs:
            data = (
                f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.content)}\n"
            ).encode()
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    def info(self, path):
        found = {"type": "file", "path": path, "oid": self.git_oid, "size": len(self.content)}
        if self.lfs:
            found["lfs"] = {"oid": self.sha256, "size": len(self.content), "pointerSize": 130}
        return found


@dataclasses.dataclass
class Commit:
    sha: str
    files: dict
    title: str
    parent: str | None
    date: str


@dataclasses.dataclass
class Repo:
    kind: str  # models, datasets, spaces
    name: str
    private: bool
    commits: dict = dataclasses.field(default_factory=dict)
    refs: dict = dataclasses.field(default_factory=dict)
    pulls: dict = dataclasses.field(default_factory=dict)

    def commit(self, ref, files, title):
        parent = self.refs.get(ref)
        seed = (
            f"{self.kind}{self.name}{ref}{title}{len(self.commits)}{sorted((p, b.git_oid) for p, b in files.items())}"
        )
        sha = hashlib.sha1(seed.encode()).hexdigest()
        self.commits[sha] = Commit(sha, dict(files), title, parent, now())
        self.refs[ref] = sha
        return sha

    def find(self, revision):
        ref = {"main": "refs/heads/main"}.get(revision, revision)
        return self.commits.get(self.refs.get(ref, revision))

    def files(self, revision="main"):
        """What a reader sees: path → bytes."""
        return {path: blob.content for path, blob in self.find(revision).files.items()}

    def merged(self, pull):
        """Main with the pull request's changes: its files, and the paths that both sides changed differently."""
        base = self.commits[pull["base"]].files
        main, mine = self.find("main").files, self.find(f"refs/pr/{pull['num']}").files
        files, conflicts = dict(main), []
        for path in {*base, *mine}:
            if mine.get(path) == base.get(path):
                continue
            if main.get(path) not in (base.get(path), mine.get(path)):
                conflicts.append(path)
            files.pop(path, None)
            if path in mine:
                files[path] = mine[path]
        return files, sorted(conflicts)


def now():
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
