"""Checks before anything is uploaded: does the card parse, does it hold together with the files, are the files safe?"""

import os
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from wildreward.common import credentials
from wildreward.common.cards import Card
from wildreward.common.errors import UserError
from wildreward.model_card.files import DATASET, MODEL, Selection, matches, select_files

REQUIRED = {MODEL: ("license", "library_name", "pipeline_tag", "tags"), DATASET: ("configs", "dataset_info")}
TEXT_FIELDS = ("library_name", "pipeline_tag", "license_name", "pretty_name")
TEXT_OR_LIST_FIELDS = ("language", "license", "datasets", "base_model", "tags", "task_categories", "size_categories")
_IMAGE = re.compile(r"!\[[^\]]*\]\(\s*<?([^)\s>]+)|<img[^>]*\ssrc=[\"']([^\"']+)", re.IGNORECASE)
# Everything else that is pushed is text. A tokenizer's vocabulary is made of pieces of text that prove nothing.
_NOT_TEXT = ("*.safetensors", "*.model", "figures/*.png", "images/*.png", "images/*.jpg")
_VOCABULARY = ("tokenizer.json", "vocab.json", "vocab.txt", "merges.txt")
_MOST_FINDINGS = 3  # named of one file


def validate_folder(folder: str | os.PathLike, readme: str | None = None) -> Selection:
    """Check a model or dataset folder the way it would go to the Hub.

    Args:
        folder: the folder.
        readme: the card to check instead of the folder's README.md.

    Returns:
        The files to push.

    Raises:
        UserError: every problem found, in one message.
    """
    folder = Path(folder)
    selection = select_files(folder)
    if readme is None:
        path = folder / "README.md"
        if not path.exists():
            raise UserError(
                f"{folder} has no README.md; expected the card that the command that made the folder writes"
            )
        readme = path.read_text(encoding="utf-8")
    problems = [*card_problems(readme, selection, folder), *_file_problems(folder, selection, readme)]
    if problems:
        raise UserError(f"{folder} is not ready for the Hub: {'; '.join(problems)}")
    return selection


def card_problems(text: str, selection: Selection, folder: Path) -> list[str]:
    """What is wrong with a card: YAML, required and typed metadata, the section's comments, images, dataset features."""
    try:
        card = Card.parse(text)
    except UserError as error:
        return [str(error)]
    problems = [*_metadata_problems(card.metadata, selection.kind), *_image_problems(text, selection)]
    if selection.kind == DATASET and not problems:
        problems += _dataset_problems(card.metadata, selection, folder)
    return problems


def _metadata_problems(metadata: Mapping[str, Any], kind: str) -> Iterator[str]:
    from huggingface_hub import DatasetCardData, ModelCardData

    for key in REQUIRED[kind]:
        if not metadata.get(key):
            yield f"the card's metadata lacks `{key}`"
    for key in TEXT_FIELDS:
        if key in metadata and not isinstance(metadata[key], str):
            yield f"the card's `{key}` is {metadata[key]!r}; expected text"
    for key in TEXT_OR_LIST_FIELDS:
        value = metadata.get(key)
        items = value if isinstance(value, list) else [value]
        if value is not None and not all(isinstance(item, str) and item for item in items):
            yield f"the card's `{key}` is {value!r}; expected text or a list of texts (quote `no` and numbers)"
    try:
        (ModelCardData if kind == MODEL else DatasetCardData)(**metadata)
    except (ValueError, TypeError) as error:
        yield f"the Hub would not read the card's metadata: {error}"


def _image_problems(text: str, selection: Selection) -> Iterator[str]:
    for link in image_links(text):
        if link not in selection.files:
            yield f"the card shows {link}, which is not among the files to push"


def image_links(text: str) -> list[str]:
    """Images the text shows from the repository itself (not from the web)."""
    links = [first or second for first, second in _IMAGE.findall(text)]
    return [link.removeprefix("./") for link in links if not re.match(r"[a-z]+:", link, re.IGNORECASE)]


def _dataset_problems(metadata: Mapping[str, Any], selection: Selection, folder: Path) -> Iterator[str]:
    from datasets import DatasetInfo
    from datasets.utils.metadata import MetadataConfigs
    from huggingface_hub import DatasetCardData

    infos, columns = metadata["dataset_info"], {}
    for info in infos if isinstance(infos, list) else [infos]:
        name = info.get("config_name", "default") if isinstance(info, dict) else str(info)
        try:
            columns[name] = list(DatasetInfo._from_yaml_dict(dict(info)).features or ())
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            yield f"`datasets` cannot read the `dataset_info` of {name}: {type(error).__name__}: {error}"
            continue
        if not columns[name]:
            yield f"`dataset_info` of {name} has no features"
    try:
        configs = MetadataConfigs.from_dataset_card_data(DatasetCardData(**metadata))
        configs.get_default_config_name()
    except (ValueError, TypeError, KeyError) as error:
        yield f"`datasets` cannot read the card's `configs`: {' '.join(str(error).split())[:200]}"
        return
    for name, config in configs.items():
        for pattern in _patterns(config.get("data_files")):
            found = [file for file in selection.files if matches(file, (pattern,))]
            if not found:
                yield f"config {name} names the data files {pattern}, and there are none"
            for file in found:
                yield from _column_problems(folder / file, name, columns.get(name))


def _column_problems(path: Path, config: str, columns: list[str] | None) -> Iterator[str]:
    """Columns of a parquet file against those that `dataset_info` promises."""
    import pyarrow.parquet
    from pyarrow import ArrowInvalid

    try:
        there = set(pyarrow.parquet.read_schema(path).names)
    except (ArrowInvalid, OSError) as error:
        yield f"{path.name} cannot be read as parquet: {error}"
        return
    if columns and there != set(columns):
        differing = ", ".join(sorted(there ^ set(columns)))
        yield f"{path.name} and the `dataset_info` of {config} differ in the columns {differing}"


def _patterns(data_files: Any) -> Iterator[str]:
    for item in data_files if isinstance(data_files, list) else [data_files]:
        if isinstance(item, dict):
            yield from _patterns(item.get("path"))
        elif item is not None:
            yield str(item)


def _file_problems(folder: Path, selection: Selection, readme: str) -> Iterator[str]:
    if selection.kind == MODEL and not any(name.endswith(".safetensors") for name in selection.files):
        yield "there are no weights; expected *.safetensors"
    for name in sorted({*selection.files, "README.md"}):
        if name == "README.md":
            places = tuple(_in_text(readme))
        elif not matches(name, (*_NOT_TEXT, *_VOCABULARY)):
            state = (folder / name).stat()
            places = _credentials_in(folder / name, state.st_mtime_ns, state.st_size)
        else:
            continue
        if places:
            more = ", …" if len(places) > _MOST_FINDINGS else ""
            yield (
                f"{name} holds what looks like an access token or another secret ({', '.join(places[:_MOST_FINDINGS])}{more}); "
                "remove it (and revoke it if it was shared)"
            )


@lru_cache(maxsize=1024)
def _credentials_in(path: Path, mtime_ns: int, size: int) -> tuple[str, ...]:
    """Kinds and places of the first credentials of a file, never the credentials themselves; a file that has not changed is
    read once, though a push checks more than once.
    """
    if path.suffix == ".parquet":
        found = _in_rows(path)
    else:
        found = _in_text(path.read_text(encoding="utf-8", errors="replace"))
    return tuple(islice(found, _MOST_FINDINGS + 1))


def _in_text(text: str) -> Iterator[str]:
    for place, kind in credentials.places(text):
        yield f"{kind} in line {text.count(chr(10), 0, place) + 1}"


def _in_rows(path: Path) -> Iterator[str]:
    """Of a parquet file, whose rows (from 0) are read in small batches."""
    import pyarrow.parquet as pq
    from pyarrow import ArrowInvalid

    start = 0
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            for _, text in _texts([str(schema.remove_metadata()), *(schema.metadata or {}).values()], "schema"):
                yield from (f"{kind} in the schema" for kind in credentials.find(text))
            for batch in file.iter_batches(batch_size=256):
                for name, column in zip(batch.schema.names, batch.columns, strict=True):
                    for number, value in enumerate(column.to_pylist(), start):
                        for field, text in _texts(value, name):
                            for kind in credentials.find(text):
                                yield f"{kind} in row {number}, column {field}"
                start += len(batch)
    except (ArrowInvalid, OSError) as error:
        raise UserError(f"{path.name} cannot be read as parquet: {error}") from error


def _texts(value: Any, place: str) -> Iterator[tuple[str, str]]:
    """All texts of a value, and where in the column each is."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, bytes):
        yield place, value.decode("utf-8", "replace")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(item, f"{place}.{key}")
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item, place)
