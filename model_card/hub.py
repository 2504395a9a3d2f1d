"""One upload to the Hub that nobody sees half done: into a pull request, which is merged when all of it is there.

An upload that was interrupted leaves its pull request open. The next one goes on in it: files that arrived are not sent
again. Main is compared with the folder before and after, so nothing is sent when nothing changed.
"""

import contextlib
import hashlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import httpx2
from huggingface_hub import DiscussionWithDetails, HfApi, RepoFile
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    RepositoryNotFoundError,
)

from wildreward.errors import UserError
from wildreward.model_card.files import matches

logger = logging.getLogger(__name__)

TITLE = "Upload with wildreward push"
DESCRIPTION = "Opened by `wildreward push`; it is merged when every file has arrived. Run the same push again to go on."
LOGIN = "set HF_TOKEN or run `hf auth login`"


@contextlib.contextmanager
def hub_errors(repo_id: str) -> Iterator[None]:
    """Turn what the Hub client raises into one line for the user, without addresses of signed uploads in it."""
    try:
        yield
    except LocalTokenNotFoundError as error:
        raise UserError(f"no access token for {_endpoint()}; {LOGIN}") from error
    except HFValidationError as error:
        raise UserError(f"{repo_id!r} is not a repository id: expected OWNER/NAME ({error})") from error
    except HfHubHTTPError as error:
        raise UserError(_explain(error, repo_id)) from error
    except (httpx2.HTTPError, LocalEntryNotFoundError) as error:
        raise UserError(_network(error)) from error
    except RuntimeError as error:  # the client wraps what went wrong with a single large file
        if isinstance(error.__cause__, HfHubHTTPError):
            raise UserError(_explain(error.__cause__, repo_id)) from error
        if isinstance(error.__cause__, httpx2.HTTPError):
            raise UserError(_network(error.__cause__)) from error
        raise


def changed_paths(api: HfApi, repo_id: str, kind: str, staged: Path, replaced: tuple[str, ...]) -> list[str]:
    """Paths by which main differs from the staged files: new, changed, or of a `replaced` kind and no longer there."""
    entries = api.list_repo_tree(repo_id, recursive=True, revision="main", repo_type=kind)
    there = {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}
    here = {path.relative_to(staged).as_posix(): path for path in staged.rglob("*") if path.is_file()}
    differing = [name for name, path in here.items() if name not in there or not _same(path, there[name])]
    return sorted(differing + [name for name in there if name not in here and matches(name, replaced)])


def upload(api: HfApi, repo_id: str, kind: str, staged: Path, replaced: tuple[str, ...], message: str) -> None:
    """Bring the staged files to main through a pull request: the open one of an interrupted upload, or a new one.

    Where main was changed under it in the same files, the pull request is closed and main left as it is: compare again.
    """
    pull = _resume(api, repo_id, kind) or api.create_pull_request(
        repo_id, title=TITLE, description=DESCRIPTION, repo_type=kind
    )
    api.upload_folder(
        repo_id=repo_id,
        repo_type=kind,
        folder_path=staged,
        revision=pull.git_reference,
        delete_patterns=_stale(api, repo_id, kind, staged, pull.git_reference, replaced),
        commit_message=message,
    )
    pull = api.get_discussion_details(repo_id, pull.num, repo_type=kind)
    if pull.conflicting_files:
        _close(api, repo_id, kind, pull.num)
        return
    if pull.status == "draft":
        api.change_discussion_status(repo_id, pull.num, "open", repo_type=kind)
    api.merge_pull_request(repo_id, pull.num, repo_type=kind)


def read_card(api: HfApi, repo_id: str, kind: str) -> str:
    """README.md as it is on main now; empty where there is none."""
    info = api.repo_info(repo_id, repo_type=kind, revision="main")
    if not any(sibling.rfilename == "README.md" for sibling in info.siblings or []):
        return ""
    path = api.hf_hub_download(repo_id, "README.md", repo_type=kind, revision=info.sha)
    return Path(path).read_text(encoding="utf-8")


def _resume(api: HfApi, repo_id: str, kind: str) -> DiscussionWithDetails | None:
    """The open pull request of an interrupted push of this user; one that no longer fits on main is closed."""
    me = api.whoami(cache=True)["name"]
    found = None
    for discussion in list(api.get_repo_discussions(repo_id, discussion_type="pull_request", repo_type=kind)):
        if discussion.title != TITLE or discussion.author != me or discussion.status not in ("open", "draft"):
            continue
        details = api.get_discussion_details(repo_id, discussion.num, repo_type=kind)
        if found is None and not details.conflicting_files:
            found = details
            logger.info("going on in pull request %d, which an earlier push left open", discussion.num)
        else:
            _close(api, repo_id, kind, discussion.num)
    return found


def _close(api: HfApi, repo_id: str, kind: str, number: int) -> None:
    reason = "Main has changed in the meantime; the upload starts over in a new pull request."
    api.change_discussion_status(repo_id, number, "closed", comment=reason, repo_type=kind)


def _stale(
    api: HfApi, repo_id: str, kind: str, staged: Path, revision: str | None, replaced: tuple[str, ...]
) -> list[str] | None:
    """Files on the pull request's branch that the folder no longer has, of the kinds a new upload replaces."""
    names = api.list_repo_files(repo_id, revision=revision, repo_type=kind)
    gone = [name for name in names if matches(name, replaced) and not (staged / name).exists()]
    return [_literal(name) for name in gone] or None


def _literal(name: str) -> str:
    """A pattern that matches this very name."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _same(path: Path, entry: RepoFile) -> bool:
    size = os.stat(path).st_size
    if size != entry.size:
        return False
    digest = hashlib.sha256() if entry.lfs else hashlib.sha1(b"blob %d\0" % size)
    with open(path, "rb") as handle:
        while part := handle.read(2**20):
            digest.update(part)
    return digest.hexdigest() == (entry.lfs.sha256 if entry.lfs else entry.blob_id)


def _explain(error: HfHubHTTPError, repo_id: str) -> str:
    status = error.response.status_code
    said = f" ({error.server_message})" if error.server_message else ""
    if status == 401 and not isinstance(error, RepositoryNotFoundError):
        return f"the Hub does not accept the access token{said}; {LOGIN}"
    if status == 401 or isinstance(error, RepositoryNotFoundError):
        return f"{repo_id} does not exist or is not visible with this access token; check the id, or {LOGIN}"
    if status == 403:
        return f"this access token may not write to {repo_id}{said}; use one with write permission for it"
    if status == 429:
        return f"the Hub asks to slow down{said}; wait, then run the same push again: it goes on where it stopped"
    again = "; run the same push again: it goes on where it stopped" if status >= 500 or status in (409, 412) else ""
    return f"the Hub answered {status} for {repo_id}{said}{again}"


def _network(error: Exception) -> str:
    reason = " ".join(str(error).split("\n")[0].split()) or type(error).__name__
    return f"lost the connection to {_endpoint()} ({reason}); run the same push again: it goes on where it stopped"


def _endpoint() -> str:
    from huggingface_hub import constants

    return constants.ENDPOINT
