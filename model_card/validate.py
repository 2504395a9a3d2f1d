"""Checks before anything is uploaded: does the card parse, does it hold together with the files, are the files safe?"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from wildreward.cards import Card, parse_card
from wildreward.errors import UserError
from wildreward.model_card.files import DATASET, MODEL, Selection, matches, select_files

REQUIRED = {MODEL: ("license", "library_name", "pipeline_tag", "tags"), DATASET: ("configs", "dataset_info")}
TEXT_FIELDS = ("library_name", "pipeline_tag", "license_name", "pretty_name")
TEXT_OR_LIST_FIELDS = ("language", "license", "datasets", "base_model", "tags", "task_categories", "size_categories")
PIPELINE_TAGS = ("text-classification", "text-generation", "text-ranking")
_IMAGE = re.compile(r"!\[[^\]]*\]\(\s*<?([^)\s>]+)|<img[^>]*\ssrc=[\"']([^\"']+)", re.IGNORECASE)
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})([^`\n]*)$")
_SECRET = re.compile(r"\b(?:hf_[A-Za-z0-9]{30,}|sk-[A-Za-z0-9_-]{20,}|AKIA[0-9A-Z]{16}|ghp_[A-Za-z0-9]{36})\b")
_SCANNED = ("*.md", "*.json", "*.py", "*.jinja", ".eval_results/*.yaml", "LICENSE*", "NOTICE*")
_LARGEST_SCANNED = 1_000_000


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
    problems = [*card_problems(readme, selection, folder), *_file_problems(folder, selection)]
    if problems:
        raise UserError(f"{folder} is not ready for the Hub: {'; '.join(problems)}")
    return selection


def card_problems(text: str, selection: Selection, folder: Path) -> list[str]:
    """What is wrong with a card: YAML, required and typed metadata, blocks, code fences, images, dataset features."""
    try:
        card = parse_card(text)
    except UserError as error:
        return [str(error)]
    problems = [*_metadata_problems(card.metadata, selection.kind), *_body_problems(card, selection)]
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
    if kind == MODEL and isinstance(tag := metadata.get("pipeline_tag"), str) and tag not in PIPELINE_TAGS:
        yield f"the card's `pipeline_tag` is {tag!r}; expected one of {', '.join(PIPELINE_TAGS)}"
    try:
        (ModelCardData if kind == MODEL else DatasetCardData)(**{str(key): value for key, value in metadata.items()})
    except (ValueError, TypeError) as error:
        yield f"the Hub would not read the card's metadata: {error}"


def _body_problems(card: Card, selection: Selection) -> Iterator[str]:
    for name, text in [*card.blocks.items(), *card.gaps.items()]:
        where = f"block {name!r}" if name in card.blocks and text is card.blocks[name] else f"the text after {name!r}"
        if line := open_fence(text):
            yield f"{where} opens a code fence in line {line} and does not close it"
    for link in image_links("\n".join([*card.blocks.values(), *card.gaps.values()])):
        if link not in selection.files:
            yield f"the card shows {link}, which is not among the files to push"


def open_fence(text: str) -> int | None:
    """The line (from 1) of a code fence that is never closed, by CommonMark's rules; None where all are closed."""
    fence, opened = "", None
    for number, line in enumerate(text.splitlines(), 1):
        found = _FENCE.match(line)
        if not found:
            continue
        marks, info = found.groups()
        if not fence:
            fence, opened = marks, number
        elif marks[0] == fence[0] and len(marks) >= len(fence) and not info.strip():
            fence, opened = "", None
    return opened


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


def _file_problems(folder: Path, selection: Selection) -> Iterator[str]:
    if selection.kind == MODEL and not any(name.endswith(".safetensors") for name in selection.files):
        yield "there are no weights; expected *.safetensors"
    for name in selection.files:
        path = folder / name
        if matches(name, _SCANNED) and path.stat().st_size <= _LARGEST_SCANNED and name != "tokenizer.json":
            text = path.read_text(encoding="utf-8", errors="replace")
            if _SECRET.search(text):
                yield f"{name} holds what looks like an access token; remove it (and revoke the token if it was shared)"
