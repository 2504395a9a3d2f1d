"""Where data was read from, in a form that can be published: a Hub id and its commit, or file names and their digests."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datasets import Dataset

Origin = dict[str, str]


def hub_split(repo: str, split: str) -> "tuple[Dataset, Origin]":
    """One split of a dataset on the Hub (or in the cache), with the commit it was read at.

    Raises:
        FileNotFoundError, ConnectionError, ValueError: as `datasets.load_dataset` does.
    """
    from datasets import load_dataset_builder

    builder = load_dataset_builder(repo)
    builder.download_and_prepare()
    return builder.as_dataset(split), {"repo": repo, "revision": builder.hash}


def file_origins(files: Sequence[Path], root: Path) -> list[Origin]:
    """Names of the files below `root` (of `root` itself its own name) and the digests of their bytes."""
    origins = []
    for file in files:
        with open(file, "rb") as handle:
            digest = hashlib.file_digest(handle, "sha256").hexdigest()
        origins.append({"file": file.name if file == root else file.relative_to(root).as_posix(), "sha256": digest})
    return origins
