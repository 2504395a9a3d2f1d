"""Push a model or dataset folder: the card is rendered and everything checked first, then one upload, all or nothing."""

import logging
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi

from wildreward.cards import fill_in, mark_pushed, merge_card, parse_card, reconcile, set_field
from wildreward.errors import UserError
from wildreward.files import FolderLock, atomic_path
from wildreward.model_card import hub
from wildreward.model_card.facts import read_model_facts
from wildreward.model_card.files import MODEL, Selection, detect_kind, replaced
from wildreward.model_card.model_card import EVAL_RESULTS, render_eval_results, render_model_card
from wildreward.model_card.validate import validate_folder

logger = logging.getLogger(__name__)

ROUNDS = 3  # how often main may change under an upload before it is given up


@dataclass(frozen=True)
class Pushed:
    """What a push did."""

    url: str
    kind: str
    files: tuple[str, ...]
    changed: tuple[str, ...]
    """Paths that differed from main before the push; empty when the Hub had everything already."""
    left_out: tuple[str, ...]
    """Files of the folder that do not belong on the Hub."""


def push(
    path: str | os.PathLike,
    repo_id: str,
    private: bool | None = None,
    license: str | None = None,
    message: str | None = None,
    api: HfApi | None = None,
) -> Pushed:
    """Push a model folder or a dataset folder to the Hub.

    Nothing is sent before card and files have passed every check. The upload goes to a pull request and is merged when
    complete, so readers of the repository see the old state or the new one. Interrupted, the same call goes on where it
    stopped. What people wrote into the card, here or on the Hub, is kept.

    Args:
        path: the folder; from its contents it is told whether it is a model or a dataset.
        repo_id: `OWNER/NAME`, or `NAME` for the account of the access token. Created if needed.
        private: create the repository private (True) or public (False); None leaves it to the account's setting.
        license: license for the card, kept in later pushes; a model's default is its base model's.
        message: commit message.
        api: client to use; by default one with the token from HF_TOKEN or `hf auth login`.

    Raises:
        UserError: a check failed, or the Hub refused or could not be reached; the message says what to do.
    """
    folder = Path(path)
    kind = detect_kind(folder)
    api = api or HfApi()
    with FolderLock(folder), hub.hub_errors(repo_id):
        _check(folder, kind, repo_id, license, "")
        if kind == MODEL and read_model_facts(folder).results_of_other_weights:
            logger.warning(
                "%s is of other weights than those in the folder: it is not pushed, and the card says that these were not "
                "evaluated; run `wildreward evaluate` on this folder, then push again",
                folder / "results.json",
            )
        repo_id = _repository(api, repo_id, kind, private)
        for _ in range(ROUNDS):
            on_hub = hub.read_card(api, repo_id, kind)
            card, kept, selection = _check(folder, kind, repo_id, license, on_hub)
            stale = replaced(kind, selection.files)
            with tempfile.TemporaryDirectory(prefix="wildreward-push-") as staged:
                _stage(folder, selection, card, _entries(folder, kind), Path(staged))
                changed = hub.changed_paths(api, repo_id, kind, Path(staged), stale)
                if changed:
                    hub.upload(api, repo_id, kind, Path(staged), stale, message or f"Upload {kind}")
                left = hub.changed_paths(api, repo_id, kind, Path(staged), stale) if changed else []
            if not left:
                break
            logger.warning("main of %s changed during the upload; comparing again", repo_id)
        else:
            raise UserError(f"{repo_id} keeps changing during the upload ({', '.join(left[:5])}); push again later")
        _keep(folder / "README.md", kept)
        if entries := _entries(folder, kind):
            _keep(folder / EVAL_RESULTS, entries)
    prefix = "" if kind == MODEL else "datasets/"
    url = f"{api.endpoint}/{prefix}{repo_id}"
    return Pushed(url, kind, selection.files, tuple(changed), selection.left_out)


def _check(folder: Path, kind: str, repo_id: str, license: str | None, on_hub: str) -> tuple[str, str, Selection]:
    """Render the card that would be pushed and check it together with the files.

    Returns:
        The card; as it then stays in the folder, which names no repository in a dataset's loading example, because the
        folder may be pushed to another one, too; the files.
    """
    readme = folder / "README.md"
    local = readme.read_text(encoding="utf-8") if readme.exists() else ""
    for name, text in ((f"{readme}", local), (f"README.md of {repo_id} on the Hub", on_hub)):
        try:
            parse_card(text)
        except UserError as error:
            raise UserError(f"{name} is not ready to be pushed: {error}") from error
    withheld: set[str] = set()
    if kind == MODEL:
        facts = read_model_facts(folder, repo_id if "/" in repo_id else None)
        fresh = render_model_card(facts)
        placeless = fresh
        withheld = {"results.json"} if facts.results_of_other_weights else set()
    elif local:
        placeless = local
        fresh = fill_in(local, "PATH_OR_REPO", repo_id)  # in the loading example that `build-dataset` writes
    else:
        raise UserError(
            f"{folder} has no README.md; `wildreward build-dataset` writes one, run it again on this folder"
        )
    joined = reconcile(on_hub, local)
    card = _finished(merge_card(joined, fresh), license)
    kept = card if placeless == fresh else _finished(merge_card(joined, placeless), license)
    selection = validate_folder(folder, card)
    files = tuple(sorted({*selection.files, "README.md"} - withheld))
    return card, kept, Selection(kind, files, (*selection.left_out, *sorted(withheld)))


def _finished(card: str, license: str | None) -> str:
    return mark_pushed(set_field(card, "license", license) if license else card)


def _repository(api: HfApi, repo_id: str, kind: str, private: bool | None) -> str:
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


def _entries(folder: Path, kind: str) -> str:
    return render_eval_results(read_model_facts(folder).results) if kind == MODEL else ""


def _stage(folder: Path, selection: Selection, card: str, entries: str, staged: Path) -> None:
    """Lay out exactly what is pushed: links to the folder's files, and the card as rendered."""
    for name in selection.files:
        target = staged / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if name == "README.md":
            target.write_text(card, encoding="utf-8")
        elif name != EVAL_RESULTS.as_posix():
            target.symlink_to((folder / name).resolve())
    if entries:
        (staged / EVAL_RESULTS).parent.mkdir(parents=True, exist_ok=True)
        (staged / EVAL_RESULTS).write_text(entries, encoding="utf-8")


def _keep(path: Path, text: str) -> None:
    """Leave in the folder what is on the Hub now."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
