"""Push a model or dataset folder: the card is rendered and everything checked first, then one commit, all or nothing."""

import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path

from huggingface_hub import HfApi

from wildreward.common.cards import Card, joined, rendered_again
from wildreward.common.errors import UserError
from wildreward.common.files import FolderLock, atomic_path
from wildreward.model_card import hub
from wildreward.model_card.facts import read_model_facts
from wildreward.model_card.files import MODEL, Selection, detect_kind, matches, replaced
from wildreward.model_card.model_card import EVAL_RESULTS, model_card, render_eval_results
from wildreward.model_card.validate import validate_folder

logger = logging.getLogger(__name__)

PLACEHOLDER = "PATH_OR_REPO"  # of the repository, in the loading example that `build-dataset` writes


@dataclass(frozen=True)
class Pushed:
    """What a push did."""

    url: str
    kind: str
    files: tuple[str, ...]
    changed: bool
    """Whether anything differed from main before the push."""
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

    Nothing is sent before card and files have passed every check. The upload is a pull request that is merged when
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
        _, _, selection = _prepare(folder, kind, repo_id, license, "")
        if "results.json" in selection.left_out:
            logger.warning(
                "%s is of other weights than those in the folder: it is not pushed, and the card says that these were not "
                "evaluated; run `wildreward evaluate` on this folder, then push again",
                folder / "results.json",
            )
        repo_id = hub.open_repository(api, repo_id, kind, private)
        head, there, on_hub = hub.read_main(api, repo_id, kind)
        card, kept, selection = _prepare(folder, kind, repo_id, license, on_hub)
        files: dict[str, Path | bytes] = {name: folder / name for name in selection.files}
        entries = render_eval_results(read_model_facts(folder).results) if kind == MODEL else ""
        files.pop(EVAL_RESULTS.as_posix(), None)
        files |= {"README.md": card.encode()} | ({EVAL_RESULTS.as_posix(): entries.encode()} if entries else {})
        gone = [name for name in there if name not in files and matches(name, replaced(kind, selection.files))]
        changed = hub.commit(api, repo_id, kind, files, gone, message or f"Upload {kind}", head)
        _keep(folder / "README.md", kept)
        if entries:
            _keep(folder / EVAL_RESULTS, entries)
    url = f"{api.endpoint}/{'' if kind == MODEL else 'datasets/'}{repo_id}"
    return Pushed(url, kind, selection.files, changed, selection.left_out)


def _prepare(folder: Path, kind: str, repo_id: str, license: str | None, on_hub: str) -> tuple[str, str, Selection]:
    """Render the card that would be pushed and check it together with the files.

    Returns:
        The card; as it then stays in the folder, where a dataset's loading example names no repository, because the folder
        may be pushed to another one, too; the files.
    """
    readme = folder / "README.md"
    local = _parse(readme.read_text(encoding="utf-8") if readme.exists() else "", str(readme))
    withheld: set[str] = set()
    if kind == MODEL:
        facts = read_model_facts(folder, repo_id if "/" in repo_id else None)
        fresh = model_card(facts)
        if facts.results_of_other_weights:
            withheld = {"results.json"}
    elif readme.exists():
        fresh = local
    else:
        raise UserError(
            f"{folder} has no README.md; `wildreward build-dataset` writes one, run it again on this folder"
        )
    kept = rendered_again(joined(_parse(on_hub, f"README.md of {repo_id} on the Hub"), local), fresh)
    if license:
        kept = replace(kept, metadata=kept.metadata | {"license": license})
    kept = replace(kept, pushed=kept.digest())
    card = str(replace(kept, section=kept.section.replace(PLACEHOLDER, repo_id)))
    selection = validate_folder(folder, card)
    files = tuple(sorted({*selection.files, "README.md"} - withheld))
    return card, str(kept), Selection(kind, files, (*selection.left_out, *sorted(withheld)))


def _parse(text: str, name: str) -> Card:
    try:
        return Card.parse(text)
    except UserError as error:
        raise UserError(f"{name} is not ready to be pushed: {error}") from error


def _keep(path: Path, text: str) -> None:
    """Leave in the folder what is on the Hub now."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
