"""The Hub of all tests is a cache of their own, and offline; a fixture puts a package's model there under its Hub id."""

import os
import tempfile
from pathlib import Path

import pytest

# before huggingface_hub is imported; processes that tests start take it over
_CACHE = tempfile.TemporaryDirectory(prefix="hub-cache-")
os.environ["HF_HUB_CACHE"] = _CACHE.name
os.environ["HF_HUB_OFFLINE"] = "1"


def in_hub_cache(snapshot: str) -> str:
    """Put a snapshot folder of `wildreward.packages` into the cache, and return its Hub id."""
    from wildreward.common.names import public_name

    folder = Path(snapshot)
    repo = Path(_CACHE.name) / folder.parents[1].name
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(folder.name)
    (repo / "snapshots").mkdir()
    (repo / "snapshots" / folder.name).symlink_to(folder)
    return public_name(snapshot)


@pytest.fixture(scope="session")
def minilm() -> str:
    """The Hub id of all-MiniLM-L6-v2, which loads as for a user with a filled cache."""
    return _installed("minilm_folder")


@pytest.fixture(scope="session")
def smollm2() -> str:
    """The Hub id of SmolLM2-135M-Instruct, which loads as for a user with a filled cache."""
    return _installed("smollm2_folder")


def _installed(folder: str) -> str:
    from wildreward import packages
    from wildreward.common.errors import UserError

    try:
        return in_hub_cache(getattr(packages, folder)())
    except UserError as error:
        pytest.skip(str(error))
