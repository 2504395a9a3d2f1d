"""Checks everything about a build that can be checked before work starts."""

import logging
import os
from collections.abc import Collection, Iterable
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from wildreward.common.errors import UserError
from wildreward.dataset_builder import dedup, people
from wildreward.dataset_builder.settings import BuildSettings
from wildreward.dataset_builder.sources.files import InputErrors, source_digest, system_reason
from wildreward.dataset_builder.sources.finding import find_layout, shown_names
from wildreward.dataset_builder.sources.layouts import Layout
from wildreward.dataset_builder.sources.readers import Slice, find_slices, first_records
from wildreward.dataset_builder.sources.zipped import archive_of
from wildreward.dataset_builder.stages import Build

# What a killed run may leave half-written in the dataset folder: `files.atomic_path` names it so.
_TEMPORARY = (
    ".README.md.*.tmp",
    ".build_report.json.*.tmp",
    "figures/.*.png.*.tmp",
    "data/.*-of-*.parquet.*.tmp",
    "unpaired_preference/.*-of-*.parquet.*.tmp",
    "work/**/.*.[0-9]*.tmp",
)

logger = logging.getLogger(__name__)


def prepare(settings: BuildSettings) -> Build:
    """Find and check the source, the encoder and the labeler. Writes nothing.

    Raises:
        UserError: for everything the user can put right.
    """
    if not settings.source or not settings.output:
        raise UserError("build-dataset needs --source and --output")
    if settings.dry_run:
        raise UserError(
            "a dry run writes nothing; from Python call wildreward.dataset_builder.preview.preview(settings)"
        )
    check_output(Path(settings.output), Path(settings.source))
    errors = InputErrors(skip=settings.on_bad_input == "skip")
    slices = slices_of(settings, errors)
    if settings.names_model:
        people.analyzer(settings.names_model)
    if settings.mining_window > 0:
        from wildreward.dataset_builder.embedding import check_encoder  # loads torch

        check_encoder(settings.mining_encoder)
    slices, layouts = with_layouts(slices, settings, errors)
    build = Build(settings, layouts, slices, {}, dict(errors.counts))
    found = {layout.name: vars(layout.columns) for layout in layouts.values()}
    build.compared.update(
        settings.compared(),
        **_source_state(slices),
        rating_map=settings.ratings.written() or None,
        revision=slices[0].revision,
        layout=", ".join(sorted(found)),
        columns=found if len(found) > 1 else next(iter(found.values())),
        near_duplicates_version=dedup.VERSION,
        labeler_version=build.labeler.version,
        **{f"labeler.{option}": value for option, value in build.labeler.settings.items()},
    )
    return build


def check_output(output: Path, source: Path) -> None:
    """Refuse a folder inside the source, and one that holds what no build has put there. Writes nothing.

    A run that was refused early leaves `work/` with nothing but its lock: that is no obstacle, nor are hidden files.

    Args:
        output: the dataset folder, there or not.
        source: a file, a folder, or what is not on this machine.

    Raises:
        UserError: naming what is in the way.
    """
    if os.path.isdir(source) and output.resolve().is_relative_to(source.resolve()):
        raise UserError(
            f"the output folder {output} lies in the source folder {source}, where the dataset would be read as chats; "
            "choose one outside of it"
        )
    work = output / "work"
    if not output.is_dir() or (work / "settings.json").is_file():
        return
    there = [*output.iterdir()]
    if work.is_dir():
        there = [path for path in there if path != work] + [*work.iterdir()]
    names = sorted(str(path.relative_to(output)) for path in there if not path.name.startswith("."))
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise UserError(
            f"{output} is not empty (it holds {', '.join(names[:3])}{more}) and is not a build to go on with (it has no "
            "work/settings.json); expected a new or an empty folder, choose another --output"
        )


def sweep(output: Path) -> None:
    """Delete the temporary files of a killed run, and nothing else."""
    for pattern in _TEMPORARY:
        for path in output.glob(pattern):
            path.unlink(missing_ok=True)


def slices_of(settings: BuildSettings, errors: InputErrors) -> list[Slice]:
    """All slices of the source.

    Raises:
        UserError: there are none.
    """
    if not settings.source:
        raise UserError("build-dataset needs --source")
    slices = find_slices(settings.source, errors, settings.revision)
    if not slices:
        raise UserError(f"{settings.source} holds nothing that can be read{_because(errors)}")
    return slices


def with_layouts(
    slices: list[Slice], settings: BuildSettings, errors: InputErrors
) -> tuple[list[Slice], dict[str, Layout]]:
    """The slices to read and the layout of each file, told by its first records.

    A file that fits no layout would be lost row by row: it is an error, unless it is known to come with an export, without
    chats. Files in which no complete record begins are read like the first of the others, and of the Hub all like the first.

    Returns:
        slices, those of files whose records belong together as one; path → layout.
    """
    layouts: dict[str, Layout] = {}
    refused: dict[str, UserError] = {}
    seen: dict[str, set[str]] = {}
    quiet = InputErrors(skip=True)
    for path, pieces in _by_file(slices).items():
        records = next((found for piece in pieces if (found := first_records(piece, quiet))), [])
        objects = [{"messages": record} if isinstance(record, list) else record for record in records]
        objects = [record for record in objects if isinstance(record, dict)]
        if not objects:
            if records:
                quiet.first = f"{path} begins with a {type(records[0]).__name__}"
            continue
        seen[path] = {key for record in objects for key in record}
        try:
            layout = find_layout(
                seen[path], name=settings.layout, columns=settings.columns, where=path, records=objects
            )
            layouts[path] = replace(layout, marks=settings.marks)
        except UserError as error:
            refused[path] = error
    if not layouts:
        if refused:
            raise next(iter(refused.values()))
        expected = "expected at least one JSON object or row"
        raise UserError(f"{settings.source} holds no complete record{_because(quiet)}; {expected}")
    _check_others(refused, seen, layouts, settings, errors)
    first = next(iter(layouts.values()))
    layouts = {path: layouts.get(path, first) for path in _by_file(slices) if path not in refused}
    return _together(_with_ratings(slices, layouts, refused), layouts), layouts


def _by_file(slices: list[Slice]) -> dict[str, list[Slice]]:
    files: dict[str, list[Slice]] = {}
    for piece in slices:
        files.setdefault(piece.path, []).append(piece)
    return files


def _check_others(
    refused: Iterable[str],
    seen: dict[str, set[str]],
    layouts: dict[str, Layout],
    settings: BuildSettings,
    errors: InputErrors,
) -> None:
    """Files among the others that fit no layout: what comes with an export, and what may hold chats after all."""
    beside = {(os.path.dirname(path) or ".", name) for path, layout in layouts.items() for name in layout.beside}
    layout = next(iter(layouts.values()))
    named = [name for key, name in vars(settings.columns).items() if name and key not in ("role", "content")]
    expected = ", ".join(dict.fromkeys([*layout.required, *named]))
    rated_by = {os.path.join(os.path.dirname(path), layout.ratings_file or "") for path, layout in layouts.items()}
    for path in refused:
        if path in rated_by:
            continue
        if any(fnmatch(os.path.relpath(path, folder), name) for folder, name in beside):
            logger.info("%s comes with the export and holds no chats; it is not read", path)
            errors.counts["files_without_chats"] += 1
            continue
        errors.add(
            "other_columns",
            f"{path} does not have the columns of the other files ({layout.name}: {expected}), but "
            f"{shown_names(seen[path])}; move it elsewhere, or name its columns in a build of its own",
        )


def _with_ratings(slices: list[Slice], layouts: dict[str, Layout], refused: Collection[str]) -> list[Slice]:
    """The slices of files that have a layout; where a file of ratings lies beside one, its records come before its own."""
    found = []
    for piece in slices:
        if piece.path in layouts:
            beside = os.path.join(os.path.dirname(piece.path), layouts[piece.path].ratings_file or "")
            first = [other for other in slices if other.path == beside and beside in refused]
            found.append(Slice("together", piece.path, parts=(*first, piece)) if first else piece)
    return found


def _together(slices: list[Slice], layouts: dict[str, Layout]) -> list[Slice]:
    """Slices whose records may belong to one conversation made one, in the place of the first."""
    found: dict[Any, Slice] = {}
    for number, piece in enumerate(slices):
        layout = layouts[piece.path]
        key = (layout.name, layout.columns, layout.inside) if layout.together else number
        if key in found:
            first = found[key]
            parts = (*(first.parts or (first,)), piece)
            found[key] = Slice("together", first.path, revision=first.revision, parts=parts)
        else:
            found[key] = piece
    return list(found.values())


def _because(errors: InputErrors) -> str:
    return f" ({errors.first})" if errors.first else ""


def _source_state(slices: list[Slice]) -> dict[str, Any]:
    """What changes when the source's files do; a Hub dataset has its commit."""
    parts = [part for piece in slices for part in piece.parts or (piece,)]
    files = list(dict.fromkeys(str(archive_of(part.path) or part.path) for part in parts if part.kind != "hub"))
    if not files:
        return {"source_bytes": None, "source_digest": None}
    try:
        size = sum(Path(file).stat().st_size for file in files)
        return {"source_bytes": size, "source_digest": source_digest(files)}
    except OSError as error:
        raise UserError(
            f"{error.filename or 'a file of the source'} cannot be read ({system_reason(error)})"
        ) from error
