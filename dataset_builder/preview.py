"""`build-dataset --dry-run`: what a build would take, told from a sample of the source. Writes nothing, asks nobody."""

import json
import textwrap
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from wildreward.common.llm.quoting import Budget, estimate_tokens
from wildreward.dataset_builder.filters import extract
from wildreward.dataset_builder.labelers.prompts import chat_messages, request_record
from wildreward.dataset_builder.prepare import slices_of, with_layouts
from wildreward.dataset_builder.privacy import redact
from wildreward.dataset_builder.read import usable, why_unusable
from wildreward.dataset_builder.records import Turn, request_for
from wildreward.dataset_builder.settings import BuildSettings
from wildreward.dataset_builder.sources.files import COMPRESSED, InputErrors, size_of
from wildreward.dataset_builder.sources.layouts import Layout
from wildreward.dataset_builder.sources.readers import Slice, read_slice
from wildreward.dataset_builder.sources.zipped import archive_of

SLICES, RECORDS = 20, 1_000  # the sample: so many slices, evenly over the source, and so many records of them all
LEAST = 50  # records of a slice
TOGETHER = 10  # times as many, where several records make one conversation
BYTES = 20 << 20  # of a slice
SHOWN = 3  # turns
ASKS = ("llm", "transformers")


@dataclass
class Sample:
    """What was read of one slice.

    Attributes:
        piece: the slice.
        records, bytes: read of it; the bytes as JSON.
        whole: it was read to its end.
        counts: as `read.usable` and `filters.extract` count.
    """

    piece: Slice
    records: int = 0
    bytes: int = 0
    whole: bool = False
    counts: Counter = field(default_factory=Counter)

    def share(self) -> float | None:
        """How much of the slice was read, None where that cannot be told."""
        if self.whole or not self.records:
            return 1.0
        parts = self.piece.parts or (self.piece,)
        if any(part.kind == "hub" for part in parts):
            return None
        if all(part.kind == "parquet" for part in parts):
            return min(1.0, self.records / sum(map(_rows, parts)))
        return min(1.0, self.bytes / max(1.0, sum(map(_size, parts))))


def preview(settings: BuildSettings) -> str:
    """What a build with these settings would take, as text for the terminal.

    Raises:
        UserError: the source cannot be opened, or no file of it has a layout that is known.
    """
    errors = InputErrors(skip=True)
    slices, layouts = with_layouts(slices_of(settings, errors), settings, errors)
    chosen = slices[:: max(1, -(-len(slices) // SLICES))]
    samples, turns = [], []
    for piece in chosen:
        sample, found = _sample(piece, layouts[piece.path], settings, errors, max(LEAST, RECORDS // len(chosen)))
        samples.append(sample)
        turns += found
    counts: Counter = sum((sample.counts for sample in samples), Counter())
    projected = _projected(samples, len(slices))
    asked = [_shown(turn, settings) for turn in _spread(turns)]
    lines = [f"{settings.source}: {_amount(len(layouts), 'file')}; {_how_much(samples, slices)}"]
    lines += _files(layouts, samples)
    lines += _counted(counts, errors)
    if not counts["conversations"] and (why := why_unusable(layouts[chosen[0].path], chosen[:1], counts)):
        lines.append(f"none can be used: {why}")
    for number, text in enumerate(asked, start=1):
        lines += ["", f"turn {number} of {len(asked)}, as the labeler would see it, with personal data masked:", text]
    lines += ["", *_cost(turns, counts["turns"], projected, settings), "nothing was written"]
    return "\n".join(lines)


def _sample(
    piece: Slice, layout: Layout, settings: BuildSettings, errors: InputErrors, most: int
) -> tuple[Sample, list[Turn]]:
    sample = Sample(piece)

    def records() -> Iterator[Any]:
        found = read_slice(piece, layout.wanted(), errors)
        for record in islice(found, most * TOGETHER if layout.together else most):
            sample.records += 1
            sample.bytes += len(json.dumps(record, default=str)) + 1
            yield record
            if sample.bytes > BYTES:
                return
        sample.whole = next(found, found) is found

    conversations = list(usable(layout.rows(records()), layout, settings.max_words, sample.counts))
    turns = list(extract(conversations, settings, sample.counts))
    sample.counts["turns"] = len(turns)
    return sample, [turn for turn in turns if turn.dropped is None]


def _rows(piece: Slice) -> int:
    metadata = pq.read_metadata(piece.path)
    return sum(metadata.row_group(group).num_rows for group in range(piece.start, piece.stop or 0))


def _size(piece: Slice) -> float:
    """Bytes of a slice, estimated from its beginning where it is compressed."""
    codec = COMPRESSED.get(Path(piece.path).suffix.lower())
    if piece.kind == "jsonl" and piece.stop is not None:
        return piece.stop - piece.start
    size = size_of(piece.path)
    if codec is None or archive_of(piece.path):
        return size
    with open(piece.path, "rb") as raw:
        stream = pa.CompressedInputStream(pa.PythonFile(raw), codec)  # which closes `raw` when it goes
        return len(stream.read(4 << 20)) / max(1, raw.tell()) * size


def _projected(samples: list[Sample], slices: int) -> float | None:
    """By how much more there is of everything than in the sample."""
    shares = [sample.share() for sample in samples]
    if any(share is None for share in shares):
        return None
    records = sum(sample.records for sample in samples)
    estimated = sum(sample.records / share for sample, share in zip(samples, shares, strict=True) if share)
    return estimated / records * slices / len(samples) if records else 1.0


def _spread(turns: list[Turn]) -> list[Turn]:
    """Some turns, from the first to the last."""
    count = min(SHOWN, len(turns))
    return [turns[number * (len(turns) - 1) // max(1, count - 1)] for number in range(count)]


def _shown(turn: Turn, settings: BuildSettings) -> str:
    request = request_for(turn, "feedback", with_key=False)
    masked = replace(
        request,
        history=tuple(message._replace(content=redact(message.content)) for message in request.history),
        query=redact(request.query),
        response=redact(request.response),
        feedback=redact(request.feedback),
    )
    record = json.loads(request_record(masked, Budget.of(settings.shown_tokens)).text.splitlines()[1])
    return textwrap.indent(json.dumps(record, ensure_ascii=False, indent=2), "  ")


def _amount(number: float, what: str) -> str:
    return f"{number:,.0f} {what}" + ("" if number == 1 else "s")


def _how_much(samples: list[Sample], slices: list[Slice]) -> str:
    records = _amount(sum(sample.records for sample in samples), "record")
    whole = all(sample.whole for sample in samples) and len(samples) == len(slices)
    return f"all of it was read ({records})" if whole else f"a sample of {records} was read"


def _files(layouts: dict[str, Layout], samples: list[Sample]) -> list[str]:
    """A line for each file that the sample is of."""
    by_path: dict[str, Counter] = {}
    for sample in samples:
        by_path.setdefault(sample.piece.path, Counter()).update(sample.counts)
    lines = []
    for path, layout in list(layouts.items())[:SLICES]:
        columns = layout.columns
        where = f", messages in {columns.messages}" if not layout.convert else ""
        inside = f", records in {layout.inside}" if layout.inside else ""
        found = by_path.get(path)
        told = f"{_amount(found['conversations'], 'conversation')}, {_amount(found['turns'], 'turn')}" if found else ""
        lines.append(f"  {path}: layout {layout.name}{where}{inside}" + (f": {told}" if told else ""))
    rest = len(layouts) - len(lines)
    return [*lines, f"  … and {_amount(rest, 'file')} more"] if rest else lines


def _counted(counts: Counter, errors: InputErrors) -> list[str]:
    lines = [
        f"{_amount(counts['conversations'], 'conversation')} with {_amount(counts['turns'], 'turn')} that have a follow-up"
    ]
    for title, prefix in (
        ("conversations not used", "rejected."),
        ("messages not used", "messages_lost."),
        ("turns left out before labels", "dropped."),
    ):
        found = {key.removeprefix(prefix): count for key, count in counts.items() if key.startswith(prefix)}
        if found:
            lines.append(f"{title}: " + ", ".join(f"{reason} {count:,}" for reason, count in sorted(found.items())))
    if errors.counts:
        lost = ", ".join(f"{reason} {count:,}" for reason, count in errors.counts.items())
        lines.append(f"input lost: {lost}" + (f" ({errors.first})" if errors.first else ""))
        if errors.first:
            lines.append("a build stops there, unless --on-bad-input skip is given")
    return lines


def _cost(turns: list[Turn], counted: int, factor: float | None, settings: BuildSettings) -> list[str]:
    """How many turns there are in all, and what it costs to have them labelled."""
    if not counted:
        return ["no turn has a follow-up, so there would be no dataset"]
    scale = factor or 1.0
    of = "of the sample" if factor is None else "in all" if factor == 1.0 else "in all, estimated from the sample"
    lines = [f"turns {of}: about {counted * scale:,.0f}, of which a labeler is asked about {len(turns) * scale:,.0f}"]
    if settings.labeler not in ASKS or not turns:
        return [*lines, f"labels from --labeler {settings.labeler} cost nothing"]
    budget = Budget.of(settings.shown_tokens)
    texts = [
        chat_messages("feedback", request_record(request_for(turn, "feedback", with_key=False), budget))
        for turn in turns[:RECORDS]
    ]
    each = sum(estimate_tokens(message["content"]) for messages in texts for message in messages) / len(texts)
    prompt, completion = len(turns) * scale * each, len(turns) * scale * settings.max_answer_tokens
    lines.append(
        f"projected cost {of}: {prompt / 1e6:,.2f} million prompt tokens ({each:,.0f} a question) and at most "
        f"{completion / 1e6:,.2f} million completion tokens (--max-answer-tokens {settings.max_answer_tokens}); equal "
        "questions are asked once, failed ones again"
    )
    if settings.price_prompt or settings.price_completion:
        price = (prompt * settings.price_prompt + completion * settings.price_completion) / 1e6
        lines.append(f"at the given prices at most {price:,.2f}")
    else:
        lines.append("give --price-prompt and --price-completion (of a million tokens) to see what that is in money")
    return lines
