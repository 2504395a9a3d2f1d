"""The stages of a build in their order, each a verb: read → shard → label → mine → select → dedup → export.

A stage is a function of the build and of the numbers of the slices or shards to do, the same in this process, in a pool
and on datatrove's executors. What is done to one slice or shard ends with a file; where that is there, nothing is left to
do. So a run that was killed goes on where it stopped, and it does not matter which process does what.
"""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from wildreward.common.errors import UserError
from wildreward.common.files import make_folder, read_json, write_json
from wildreward.common.llm.answers import Answer
from wildreward.common.llm.ledger import Prices, totals
from wildreward.dataset_builder import card, figures
from wildreward.dataset_builder.dedup import duplicates_among
from wildreward.dataset_builder.export import write_dataset, write_levels
from wildreward.dataset_builder.filters import extract, filters_by_text
from wildreward.dataset_builder.label import (
    check_failures,
    has_failures,
    label_free,
    label_paid,
    read_answers,
    write_answers,
)
from wildreward.dataset_builder.labelers import make_labeler
from wildreward.dataset_builder.labelers.base import Labeler, Task
from wildreward.dataset_builder.labelers.rating import RATED, RatingLabeler, weigh
from wildreward.dataset_builder.mining import candidate_pairs, compare
from wildreward.dataset_builder.privacy import public_row, redact
from wildreward.dataset_builder.read import read_into_shards, why_unusable, write_places
from wildreward.dataset_builder.records import Turn
from wildreward.dataset_builder.report import make_report
from wildreward.dataset_builder.schemas import CANDIDATE, LEVELS, SIMILARITIES, UNUSED, level_row, read_rows, write_rows
from wildreward.dataset_builder.select import candidate_row, select_turns
from wildreward.dataset_builder.settings import BuildSettings
from wildreward.dataset_builder.shards import (
    Shard,
    count_ratings,
    count_users,
    doubt_about_users,
    find_repeats,
    naming_key,
    unused_ratings,
)
from wildreward.dataset_builder.sources.layouts import Layout
from wildreward.dataset_builder.sources.readers import Slice

if TYPE_CHECKING:
    from wildreward.dataset_builder.embedding import Embedder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Build:
    """A build that has been checked and can start. It is sent to each worker process once.

    Attributes:
        settings: what the user wants.
        layouts: of each file of the source, by its path.
        slices: of the source.
        compared: what the result depends on.
        lost: reason → how often, of files that could not even be opened.
    """

    settings: BuildSettings
    layouts: dict[str, Layout]
    slices: list[Slice]
    compared: dict[str, Any]
    lost: dict[str, int]

    @property
    def output(self) -> Path:
        return Path(self.settings.output)

    @property
    def work(self) -> Path:
        """For what is needed until the build is done, and never published."""
        return self.output / "work"

    @cached_property
    def index(self) -> dict[str, Any]:
        """What the `shard` stage found, read once in each process."""
        return read_json(self.work / "shards.json")

    @cached_property
    def shards(self) -> list[Shard]:
        return [
            Shard(
                self.work / "conversations" / name,
                frozenset(rows["drop"]),
                frozenset(rows["renamed"]),
                self.index["ratings"]["levels"],
            )
            for name, rows in self.index["shards"].items()
        ]

    @property
    def ledger(self) -> Path:
        """Every answer of a paid labeler."""
        return self.work / "ledger.sqlite"

    def files(self, folder: str) -> list[Path]:
        """The file of each shard in a folder under `work/`."""
        return [self.work / folder / shard.path.name for shard in self.shards]

    @cached_property
    def labeler(self) -> Labeler:
        """Made once in each process."""
        return make_labeler(self.settings.labeler, **self.settings.labeler_arguments())

    @cached_property
    def encoder(self) -> "Embedder":
        """Loaded once, when it is needed: many logs hold nothing to compare."""
        from wildreward.dataset_builder.embedding import Embedder

        return Embedder(self.settings.mining_encoder, max_tokens=self.settings.mining_max_tokens)

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


class Stage(NamedTuple):
    """One verb.

    Attributes:
        run: does it to the slices or shards with these numbers.
        count: how many there are.
        single: is about all shards together, so one task does it.
        exclusive: takes all cores or the GPU by itself, so this process runs it, which has loaded what it needs.
        whole: wants all numbers in one call, from the process that the user sees.
    """

    run: Callable[[Build, Sequence[int]], None]
    count: Callable[[Build], int] = lambda build: 1
    single: bool = False
    exclusive: Callable[[Build], bool] = lambda build: False
    whole: Callable[[Build], bool] = lambda build: False


def read(build: Build, numbers: Sequence[int]) -> None:
    """Read slices of the source into shards; with a limit, all in one go with the first slice."""
    settings, folder = build.settings, make_folder(build.work / "conversations")
    left = settings.limit
    for number in numbers if left is None else range(len(build.slices)) if 0 in numbers else ():
        skip = settings.on_bad_input == "skip"
        options = {
            "max_words": settings.max_words,
            "skip": skip,
            "limit": left,
            "keep_reasoning": settings.keep_reasoning,
        }
        piece = build.slices[number]
        found = read_into_shards(piece, build.layouts[piece.path], folder / f"{number:05d}", **options)
        left = left and left - found
        if left == 0:
            return


def shard(build: Build, _: Sequence[int]) -> None:
    """List all shards, with what occurs twice among their conversations; count records and users."""
    path, folder = build.work / "shards.json", build.work / "conversations"
    if path.exists():
        return
    names: list[str] = []
    counts: Counter = Counter()
    for marker in sorted(folder.glob("*.json")):
        found = read_json(marker)
        names += found["shards"]
        counts.update(found["counts"])
    if not names:
        seen = ", ".join(f"{reason} {count}" for reason, count in sorted(counts.items()))
        layout = build.layouts[build.slices[0].path]
        why = why_unusable(layout, [piece for piece in build.slices if build.layouts[piece.path] == layout], counts)
        raise UserError(
            f"{build.settings.source} holds no usable conversation ({seen or 'it is empty'}){': ' if why else ''}{why}"
        )
    paths = [folder / name for name in names]
    repeats = dict(zip(names, find_repeats(paths), strict=True))
    users = count_users(paths)
    settings, dropped = build.settings, {folder / name: rows["drop"] for name, rows in repeats.items()}
    weighed = weigh(*count_ratings(dropped), settings.ratings, settings.rating_key, settings.wants_ratings)
    if weighed["not_used"]:
        write_rows(build.work / "unused_ratings.parquet", unused_ratings(dropped, weighed["levels"]), UNUSED)
    write_places(build.work / "places.parquet", folder, repeats)
    index = {"counts": counts, "users": users, "ratings": weighed, "naming_key": naming_key(paths), "shards": repeats}
    write_json(path, index)
    if doubt := doubt_about_users(users):
        logger.warning("%s", doubt)


def label(build: Build, numbers: Sequence[int]) -> None:
    """Ask the labeler about every turn that is not left out, and about refusals."""
    shards = [build.shards[number] for number in numbers]
    if build.labeler.paid:
        for one in shards:
            _forget_failures(build, one.path)
        _ask(build, shards, "feedback")
        if build.labeler.judges_refusals:
            _ask(build, shards, "refusal")
        return
    for one in shards:
        feedback, refusals = build.work / "feedback" / one.path.name, build.work / "refusals" / one.path.name
        if not feedback.exists():
            turns = list(turns_of(build, one))
            answers = label_free(turns, build.labeler, "feedback")
            if build.labeler.judges_refusals:
                labelled = list(_with_answers(turns, answers, build.settings.labeler))
                write_answers(refusals, label_free(labelled, build.labeler, "refusal"))
            write_answers(feedback, answers)


def mine(build: Build, numbers: Sequence[int]) -> None:
    """Compare neutral turns with praise that comes soon after."""
    settings, filters = build.settings, filters_by_text(build.settings)
    for one in (build.shards[number] for number in numbers):
        path = build.work / "similarities" / one.path.name
        if not path.exists():
            pairs = candidate_pairs(_labelled_turns(build, one), settings.mining_window, filters)
            write_rows(path, compare(pairs, settings.mining_encoder, lambda: build.encoder), SIMILARITIES)


def select(build: Build, numbers: Sequence[int]) -> None:
    """Decide about every turn; write the candidates of the dataset, all levels, and last the counts."""
    for one in (build.shards[number] for number in numbers):
        name = one.path.name
        marker = (build.work / "candidates" / name).with_suffix(".json")
        if marker.exists():
            continue
        mined = build.work / "similarities" / name
        similarities = read_rows(mined).to_pylist() if mined.exists() else []
        by_user = build.index["users"]["users"] > 1  # one's own chats are one user's
        counts: Counter = Counter(pairs_not_compared=sum(row["cosine"] is None for row in similarities))
        levels, rows = [], []
        for turn in select_turns(_labelled_turns(build, one, counts), similarities, build.settings, counts):
            levels.append(level_row(turn))
            if turn.dropped is None:
                rows.append(candidate_row(turn, build.settings, build.index["naming_key"], by_user))
        write_rows(build.work / "turns" / name, levels, LEVELS)
        write_rows(build.work / "candidates" / name, rows, CANDIDATE)
        write_json(marker, counts)


def dedup(build: Build, _: Sequence[int]) -> None:
    """Find the candidates that are copies of others."""
    duplicates = duplicates_among(build.files("candidates"), build.settings.near_duplicates)
    write_json(build.work / "duplicates.json", duplicates)


def export(build: Build, _: Sequence[int]) -> None:
    """Write the dataset's files, all levels, figures, card and, last, the report."""
    settings, candidates = build.settings, build.files("candidates")
    duplicates = [
        {int(row): reason for row, reason in rows.items()} for rows in read_json(build.work / "duplicates.json")
    ]
    publish = partial(public_row, key=build.index["naming_key"], sought=settings.sought)
    written = write_dataset(build.output, candidates, duplicates, publish)
    write_levels(build.work / "levels.parquet", build.files("turns"), candidates, duplicates)
    source, turns = Counter(build.index["counts"]), Counter()
    source.update({f"lost.{reason}": count for reason, count in build.lost.items()})
    source["rejected.duplicate_conversation"] = sum(len(each.drop) for each in build.shards)
    for path in candidates:
        turns.update(read_json(path.with_suffix(".json")))
    for rows in duplicates:
        turns.update(f"dropped.{reason}" for reason in rows.values())
    seconds = build.work / "seconds.json"
    report = make_report(
        source + turns + written + Counter(totals(build.ledger)),
        users=build.index["users"],
        ratings=build.index["ratings"],
        seconds=read_json(seconds) if seconds.exists() else {},
        settings=build.compared,
        labeler=build.labeler.quality,
    )
    if report["kept"]:
        drawn = [path.name for path in figures.draw(report, build.output / "figures")]
        card.write(build.output / "README.md", report, title=redact(build.output.resolve().name), figures=drawn)
    write_json(build.output / "build_report.json", report)
    if report["mining_pairs_not_compared"]:
        logger.warning(
            "%d pairs of turns in other letters than Latin ones were not compared for implicit feedback, which %s cannot "
            "read; a multilingual --mining_encoder can",
            report["mining_pairs_not_compared"],
            report["settings"]["mining_encoder"],
        )


def turns_of(
    build: Build, one: Shard, counts: Counter | None = None, wanted: Collection[int] | None = None
) -> Iterator[Turn]:
    """All turns of a shard, unlabelled; with empty text where the conversation's row is not `wanted`."""
    return extract(one.conversations(wanted), build.settings, Counter() if counts is None else counts)


def _labelled_turns(build: Build, one: Shard, counts: Counter | None = None) -> Iterator[Turn]:
    """All turns of a shard with their levels and verdicts, and the text of the conversations that have any level but neutral."""
    answers = read_answers(build.work / "feedback", one.path)
    wanted, start = set(), 0
    for row, count, rated in one.turn_counts():
        if rated or any(answer.level not in (3, None) for answer in answers[start : start + count]):
            wanted.add(row)
        start += count
    turns = _with_answers(turns_of(build, one, counts, wanted), answers, build.settings.labeler)
    if not (build.work / "refusals" / one.path.name).exists():
        yield from turns
        return
    for turn, judged in zip(turns, read_answers(build.work / "refusals", one.path), strict=True):
        turn.verdict, turn.verdict_reason = judged.verdict, judged.reason
        yield turn


def _with_answers(turns: Iterable[Turn], answers: Iterable[Answer], labeler: str) -> Iterator[Turn]:
    """Put the answers, one a turn in the same order, on the turns; what the user rated has the level of the rating."""
    for turn, answer in zip(turns, answers, strict=True):
        turn.labeler = labeler
        if turn.rating is not None and turn.dropped is None:
            turn.labeler, turn.label_source, turn.read_level = RatingLabeler.name, RATED, answer.level
            answer = Answer(answer.key, turn.rating, reason=RATED)
        turn.level, turn.confidence, turn.reason = answer.level, answer.confidence, answer.reason
        turn.raw_label = answer
        yield turn


def _ask(build: Build, shards: Sequence[Shard], task: Task) -> None:
    """One stream of questions over all shards to a paid labeler."""
    settings = build.settings
    prices = Prices(settings.price_prompt, settings.price_completion)
    by_path = {each.path: each for each in shards}
    folder = build.work / ("feedback" if task == "feedback" else "refusals")

    def turns_of_path(path: Path) -> Iterator[Turn]:
        turns = turns_of(build, by_path[path])
        if task == "feedback":
            return turns
        return _with_answers(turns, read_answers(build.work / "feedback", path), settings.labeler)

    label_paid(list(by_path), turns_of_path, build.labeler, task, folder, build.ledger, prices=prices)
    check_failures(by_path, folder, settings.max_failed)


def _forget_failures(build: Build, path: Path) -> None:
    """Undo what followed from answers that the server failed on, so that they are asked for again; the ledger stays."""
    work, name = build.work, path.name
    later = [(work / "candidates" / name).with_suffix(".json"), work / "candidates" / name, work / "turns" / name]
    refusals, feedback = work / "refusals" / name, work / "feedback" / name
    # The answers go last: a run that is killed in between finds them and starts over.
    for answers, follows in ((refusals, later), (feedback, [*later, work / "similarities" / name, refusals])):
        if has_failures(answers.parent, path):
            for each in (*follows, answers):
                each.unlink(missing_ok=True)


STAGES = {
    "read": Stage(read, lambda build: len(build.slices)),
    "shard": Stage(shard, single=True),
    "label": Stage(
        label,
        lambda build: len(build.shards),
        exclusive=lambda build: build.labeler.uses_all_cores,
        whole=lambda build: build.labeler.paid,
    ),
    "mine": Stage(
        mine, lambda build: len(build.shards) if build.settings.mining_window else 0, exclusive=lambda build: True
    ),
    "select": Stage(select, lambda build: len(build.shards)),
    "dedup": Stage(dedup, single=True),
    "export": Stage(export, single=True),
}
