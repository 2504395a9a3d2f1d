"""The steps of a build, one function for one part, the same in a worker process, in datatrove and in this process.

Every function writes one file last; when that file is there, the step is done and does nothing. So a run that was killed
goes on where it stopped, and it does not matter which process does which part.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wildreward.dataset_builder.filters import first_reason
from wildreward.dataset_builder.finish import Rules, apply_answers, finish_turns
from wildreward.dataset_builder.ingest import ingest_slice, read_repeats
from wildreward.dataset_builder.labelers.base import Answer, Labeler
from wildreward.dataset_builder.labeling import count_attempts, has_failures, label_free, read_answers, write_answers
from wildreward.dataset_builder.mining import candidates, comparable
from wildreward.dataset_builder.parts import read_columns, read_part, turn_counts
from wildreward.dataset_builder.records import Turn
from wildreward.dataset_builder.sources.base import Layout
from wildreward.dataset_builder.sources.readers import Slice
from wildreward.dataset_builder.turns import extract
from wildreward.files import atomic_path, read_json, write_json

if TYPE_CHECKING:
    from wildreward.dataset_builder.embedding import Embedder


@dataclass(frozen=True)
class Plan:
    """Everything the steps need to know; it is sent to each worker process once."""

    folder: Path
    layout: Layout
    skip_bad_input: bool
    languages: list[str]
    max_words: int
    labeler: str
    labeler_options: dict[str, Any]
    mining_window: int
    mining_encoder: str
    mining_max_tokens: int
    rules: Rules
    near_duplicates: float
    seed: int
    test_fraction: float

    def make_labeler(self) -> Labeler:
        """The labeler; made once in each process."""
        return self._labeler

    def make_encoder(self) -> "Embedder":
        """The sentence encoder; loaded once, when it is needed: many logs hold nothing to compare."""
        return self._encoder

    @cached_property
    def _labeler(self) -> Labeler:
        from wildreward.dataset_builder.labelers import make_labeler

        return make_labeler(self.labeler, **self.labeler_options)

    @cached_property
    def naming_key(self) -> str:
        return read_json(self.names)["key"]

    @cached_property
    def _encoder(self) -> "Embedder":
        from wildreward.dataset_builder.embedding import Embedder

        return Embedder(self.mining_encoder, max_tokens=self.mining_max_tokens)

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def conversations(self) -> Path:
        return self.folder / "conversations"

    @property
    def feedback(self) -> Path:
        return self.folder / "feedback"

    @property
    def refusals(self) -> Path:
        return self.folder / "refusals"

    @property
    def pairs(self) -> Path:
        return self.folder / "pairs"

    @property
    def similarities(self) -> Path:
        return self.folder / "similarities"

    @property
    def candidates(self) -> Path:
        return self.folder / "candidates"

    @property
    def turns(self) -> Path:
        return self.folder / "turns"

    @property
    def names(self) -> Path:
        """What users are renamed with; it stays in `work/`, which is not published."""
        return self.folder / "names.json"

    @property
    def repeats(self) -> Path:
        return self.folder / "repeats.json"


def turns_of(plan: Plan, part: Path, wanted: set[int] | None = None) -> Iterator[Turn]:
    """All turns of a part, unlabelled; with empty text where the conversation's row is not `wanted`."""
    rows = read_repeats(plan.repeats).get(part.name, {})
    return extract(read_part(part, **rows, wanted=wanted), plan.languages)


def labelled_turns_of(plan: Plan, part: Path) -> Iterator[Turn]:
    """All turns of a part with their explicit levels."""
    return apply_answers(turns_of(plan, part), read_answers(plan.feedback, part), plan.labeler)


def telling_turns_of(plan: Plan, part: Path, answers: list[Answer]) -> Iterator[Turn]:
    """All turns of a part with their levels, and the text of the conversations that have any level but neutral."""
    dropped = read_repeats(plan.repeats).get(part.name, {}).get("drop", ())
    wanted, start = set(), 0
    for row, count in turn_counts(part, dropped):
        if any(answer.level not in (3, None) for answer in answers[start : start + count]):
            wanted.add(row)
        start += count
    return apply_answers(turns_of(plan, part, wanted), answers, plan.labeler)


def ingest(plan: Plan, name: str, piece: Slice, limit: int | None = None) -> int:
    """Read one slice of the source into parts."""
    return ingest_slice(
        piece, plan.layout, plan.conversations, name, max_words=plan.max_words, skip=plan.skip_bad_input, limit=limit
    )


def label(plan: Plan, part: Path) -> None:
    """Labels, refusal verdicts and candidate pairs of one part, by a labeler that costs nothing."""
    if (plan.pairs / part.name).exists():
        return
    labeler, turns = plan.make_labeler(), list(turns_of(plan, part))
    feedback = label_free(turns, labeler, "feedback")
    turns = list(apply_answers(turns, feedback, plan.labeler))
    write_answers(plan.feedback / part.name, feedback)
    nothing = [Answer("", None, attempts=0)] * len(turns)
    write_answers(
        plan.refusals / part.name, label_free(turns, labeler, "refusal") if labeler.judges_refusals else nothing
    )
    write_pairs(plan, part, turns)


def reopen(plan: Plan, part: Path) -> None:
    """Undo what followed from answers that the server failed on, so that they are asked for again; the ledger stays."""
    decided = [plan.candidates / f"{part.stem}.json", plan.candidates / part.name, plan.turns / part.name]
    paired = [plan.similarities / part.name, plan.pairs / part.name]
    refusals, feedback = plan.refusals / part.name, plan.feedback / part.name
    # The answers go last: a run that is killed in between finds them and starts over.
    for answers, later in ((refusals, decided), (feedback, [*decided, *paired, refusals])):
        if has_failures(answers.parent, part):
            for path in (*later, answers):
                path.unlink(missing_ok=True)


def label_none(plan: Plan, part: Path) -> None:
    """Empty refusal answers, where the labeler does not judge."""
    if not (plan.refusals / part.name).exists():
        write_answers(
            plan.refusals / part.name, [Answer("", None, attempts=0)] * len(read_answers(plan.feedback, part))
        )


def pairs_of(plan: Plan, turns: Iterable[Turn]) -> Iterator[dict[str, Any]]:
    """Candidates for implicit feedback (rows of `schema.PAIRS`) among labelled turns.

    A turn that was dropped before labelling has no level, so it neither gives nor takes a signal. Neutral turns that the
    filters will drop anyway are not worth embedding. What the encoder cannot read comes without its texts, to be counted.
    """
    for conversation_id, group in groupby(turns, key=lambda turn: turn.conversation.conversation_id):
        members = list(group)
        levels = [turn.level if turn.dropped is None else None for turn in members]
        pairs = candidates(levels, plan.mining_window)
        keep = {number for number in dict(pairs) if first_reason(members[number], plan.rules.limits) is None}
        for number, later in pairs:
            if number in keep:
                texts = members[number].query, members[later].query
                first, second = texts if comparable(plan.mining_encoder, *texts) else (None, None)
                place = {"conversation_id": conversation_id, "turn": number, "later": later}
                yield {**place, "first": first, "second": second}


def pair(plan: Plan, part: Path) -> None:
    """Write the candidates for implicit feedback of one part."""
    if not (plan.pairs / part.name).exists():
        write_pairs(plan, part, labelled_turns_of(plan, part))


def write_pairs(plan: Plan, part: Path, turns: Iterable[Turn]) -> None:
    """The candidates of one part; where none can be compared, that is all that there is to say."""
    pairs = list(pairs_of(plan, turns))
    if all(pair["first"] is None for pair in pairs):
        write_table(plan.similarities / part.name, [pair | {"cosine": None} for pair in pairs], "SIMILARITIES")
    write_table(plan.pairs / part.name, pairs, "PAIRS")


def compare(plan: Plan, part: Path) -> None:
    """Cosine similarity of the candidate pairs of one part, each text embedded once; none for those without texts."""
    path = plan.similarities / part.name
    if path.exists():
        return
    pairs = read_columns(plan.pairs / part.name).to_pylist()
    texts: dict[str, int] = {}
    compared = [row for row in pairs if row["first"] is not None]
    for row in compared:
        texts.setdefault(row["first"], len(texts))
        texts.setdefault(row["second"], len(texts))
    vectors = plan.make_encoder().encode(list(texts))
    first = vectors[[texts[row["first"]] for row in compared]]
    second = vectors[[texts[row["second"]] for row in compared]]
    for row, cosine in zip(compared, (first * second).sum(1).tolist(), strict=True):
        row["cosine"] = cosine
    write_table(path, pairs, "SIMILARITIES")


def finish(plan: Plan, part: Path) -> None:
    """Decide about every turn of one part; write the candidates of the dataset, all levels, and last the counts."""
    from wildreward.dataset_builder.schema import level_row

    marker = plan.candidates / f"{part.stem}.json"
    if marker.exists():
        return
    pairs = read_columns(plan.similarities / part.name).to_pylist()
    similarities = {
        (row["conversation_id"], row["turn"], row["later"]): row["cosine"] for row in pairs if row["cosine"] is not None
    }
    judged = read_columns(plan.refusals / part.name)
    verdicts = judged["verdict"].to_pylist()
    turns = telling_turns_of(plan, part, read_answers(plan.feedback, part))
    counts = Counter(pairs_not_compared=len(pairs) - len(similarities))
    levels, rows = [], []
    for turn in finish_turns(turns, verdicts, similarities, plan.rules, counts, judged["reason"].to_pylist()):
        levels.append(level_row(turn))
        if turn.dropped is None:
            rows.append(_candidate_row(plan, turn))
    asked = read_columns(plan.feedback / part.name, ["prompt_tokens", "completion_tokens"])
    for name in asked.column_names:
        counts[name] += sum(asked[name].to_pylist()) + sum(judged[name].to_pylist())
    counts["requests"] += count_attempts(plan.feedback, part) + count_attempts(plan.refusals, part)
    write_table(plan.turns / part.name, levels, "LEVELS")
    write_table(plan.candidates / part.name, rows, "CANDIDATE")
    write_json(marker, dict(counts))


def write_table(path: Path, rows: list[dict[str, Any]], schema: str) -> None:
    """Write rows with one of the schemas of `schema.py`, complete or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from wildreward.dataset_builder import schema as schemas

    table = pa.Table.from_pylist(rows, schema=getattr(schemas, schema))
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", compression_level=1, row_group_size=256)


def _candidate_row(plan: Plan, turn: Turn) -> dict[str, Any]:
    from wildreward.dataset_builder.dedup import PERMUTATIONS, TEXTS, exact_key, signature
    from wildreward.dataset_builder.privacy import published_name
    from wildreward.dataset_builder.schema import instance_row
    from wildreward.dataset_builder.split import split_of

    return {
        **instance_row(turn),
        "user_id": published_name(turn.conversation.user_id, plan.naming_key),
        "split": split_of(turn.conversation, plan.seed, plan.test_fraction),
        "exact_key": exact_key(turn),
        "signature": signature(turn).tobytes() if plan.near_duplicates else bytes(4 * TEXTS * PERMUTATIONS),
    }
