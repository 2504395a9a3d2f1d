"""One commit to the Hub that nobody sees half done: as a pull request, merged when all of it is there.

Large files that arrived before an interruption are not sent again; a pull request that was left open is closed by the next
push.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    RepositoryNotFoundError,
)

from wildreward.common.errors import UserError
from wildreward.common.lookup import hub_httpx
from wildreward.model_card.files import MODEL

TITLE = "(wildreward push)"
LOGIN = "set HF_TOKEN or run `hf auth login`"
AGAIN = "; run the same push again: it goes on where it stopped"


@contextlib.contextmanager
def hub_errors(repo_id: str) -> Iterator[None]:
    """Turn what the Hub client raises into one line for the user, without addresses of signed uploads in it."""
    try:
        yield
    except LocalTokenNotFoundError as error:
        raise UserError(f"no access token for {_endpoint()}; {LOGIN}") from error
    except HFValidationError as error:
        raise UserError(f"{repo_id!r} is not a repository id: expected OWNER/NAME ({error})") from error
    except (HfHubHTTPError, hub_httpx().HTTPError, LocalEntryNotFoundError) as error:
        raise UserError(_explain(error, repo_id)) from error
    except RuntimeError as error:  # the client wraps what went wrong with a single large file
        if not isinstance(error.__cause__, HfHubHTTPError | hub_httpx().HTTPError):
            raise
        raise UserError(_explain(error.__cause__, repo_id)) from error


def open_repository(api: HfApi, repo_id: str, kind: str, private: bool | None) -> str:
    """Make sure the repository is there, with the visibility asked for; returns its full id."""
    me = api.whoami(cache=True)["name"]
    repo_id = repo_id if "/" in repo_id else f"{me}/{repo_id}"
    api.create_repo(repo_id, repo_type=kind, private=private, exist_ok=True)
    if private and not api.repo_info(repo_id, repo_type=kind).private:
        raise UserError(
            f"{repo_id} exists and is public, but --private was asked for; make it private in its settings on the Hub, "
            "or choose another id. Nothing was uploaded"
        )
    return repo_id


def read_main(api: HfApi, repo_id: str, kind: str) -> tuple[str, list[str], str]:
    """The commit of main, its files, and its README.md; empty where there is none."""
    info = (api.model_info if kind == MODEL else api.dataset_info)(repo_id, revision="main")
    names, head = [sibling.rfilename for sibling in info.siblings or []], str(info.sha)
    if "README.md" not in names:
        return head, names, ""
    path = api.hf_hub_download(repo_id, "README.md", repo_type=kind, revision=head)
    return head, names, Path(path).read_text(encoding="utf-8")


def commit(
    api: HfApi, repo_id: str, kind: str, files: dict[str, Path | bytes], gone: Sequence[str], message: str, parent: str
) -> bool:
    """Bring files to main through a pull request.

    Args:
        files: path in the repository → file or content.
        gone: paths to delete.
        message: title of the commit.
        parent: the commit of main that the files were compared with; where main has moved on, the Hub refuses.

    Returns:
        Whether anything differed.
    """
    for pull in list(api.get_repo_discussions(repo_id, discussion_type="pull_request", repo_type=kind)):
        if pull.title.endswith(TITLE) and pull.author == api.whoami(cache=True)["name"] and pull.status == "open":
            left = "An interrupted push; the upload starts over in a new pull request."
            api.change_discussion_status(repo_id, pull.num, "closed", comment=left, repo_type=kind)
    made = api.create_commit(
        repo_id,
        [
            *(CommitOperationAdd(name, content) for name, content in files.items()),
            *(CommitOperationDelete(name) for name in gone),
        ],
        commit_message=f"{message} {TITLE}",
        repo_type=kind,
        parent_commit=parent,
        create_pr=True,
    )
    if made.pr_num is None:
        return False
    api.merge_pull_request(repo_id, made.pr_num, repo_type=kind)
    return True


def _explain(error: Exception, repo_id: str) -> str:
    if not isinstance(error, HfHubHTTPError):
        reason = " ".join(str(error).split("\n")[0].split()) or type(error).__name__
        return f"lost the connection to {_endpoint()} ({reason}){AGAIN}"
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
    return f"the Hub answered {status} for {repo_id}{said}{AGAIN if status >= 500 or status in (409, 412) else ''}"


def _endpoint() -> str:
    from huggingface_hub import constants

    return constants.ENDPOINT
