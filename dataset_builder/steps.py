"""The steps of a build, one function for one part, the same in a worker process, in datatrove and in this process.

Every function writes one file last; when that file is there, the step is done and does nothing. So a run that was killed
goes on where it stopped, and it does not matter which process does which part.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wildreward.dataset_builder.finish import Rules, apply_answers, finish_turns
from wildreward.dataset_builder.ingest import ingest_slice, read_repeats
from wildreward.dataset_builder.labelers.base import Answer, Labeler
from wildreward.dataset_builder.labeling import label_part, read_answers, write_answers
from wildreward.dataset_builder.mining import candidates
from wildreward.dataset_builder.parts import read_part
from wildreward.dataset_builder.records import Turn
from wildreward.dataset_builder.sources.base import Layout
from wildreward.dataset_builder.sources.readers import Slice
from wildreward.dataset_builder.turns import extract
from wildreward.files import atomic_path, write_json


@dataclass(frozen=True)
class Plan:
    """Everything the steps need to know; it is sent to worker processes."""

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
    _labelers: dict = field(default_factory=dict, compare=False, repr=False)

    def make_labeler(self) -> Labeler:
        """The labeler; made once in each process."""
        if "it" not in self._labelers:
            from wildreward.dataset_builder.labelers import make_labeler

            self._labelers["it"] = make_labeler(self.labeler, **self.labeler_options)
        return self._labelers["it"]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_labelers": {}}

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
    def similarities(self) -> Path:
        return self.folder / "similarities"

    @property
    def candidates(self) -> Path:
        return self.folder / "candidates"

    @property
    def turns(self) -> Path:
        return self.folder / "turns"

    @property
    def repeats(self) -> Path:
        return self.folder / "repeats.json"


def turns_of(plan: Plan, part: Path) -> Iterator[Turn]:
    """All turns of a part, unlabelled."""
    rows = read_repeats(plan.repeats).get(part.name, {})
    return extract(read_part(part, **rows), plan.languages, plan.max_words)


def labelled_turns_of(plan: Plan, part: Path) -> Iterator[Turn]:
    """All turns of a part with their explicit levels."""
    return apply_answers(turns_of(plan, part), read_answers(plan.feedback, part), plan.labeler)


def ingest(plan: Plan, name: str, piece: Slice, limit: int | None = None) -> int:
    """Read one slice of the source into parts."""
    return ingest_slice(piece, plan.layout, plan.conversations, name, skip=plan.skip_bad_input, limit=limit)


def label(plan: Plan, part: Path) -> None:
    """Labels and refusal verdicts of one part, by a labeler that costs nothing."""
    labeler = plan.make_labeler()
    label_part(part, lambda p: turns_of(plan, p), labeler, "feedback", plan.feedback)
    if labeler.judges_refusals:
        label_part(part, lambda p: labelled_turns_of(plan, p), labeler, "refusal", plan.refusals)


def label_none(plan: Plan, part: Path) -> None:
    """Empty refusal answers, where the labeler does not judge."""
    if not (plan.refusals / part.name).exists():
        count = len(read_answers(plan.feedback, part))
        write_answers(plan.refusals / part.name, (Answer("", None, attempts=0) for _ in range(count)))


def pairs_of(plan: Plan, part: Path) -> list[tuple[str, int, int, str, str]]:
    """Candidates for implicit feedback: conversation id, neutral turn, later turn, and the two user messages.

    A turn that was dropped before labelling has no level, so it neither gives nor takes a signal.
    """
    pairs = []
    members: list[Turn] = []

    def collect() -> None:
        levels = [turn.level if turn.dropped is None else None for turn in members]
        for number, later in candidates(levels, plan.mining_window):
            first, second = members[number], members[later]
            pairs.append((first.conversation.conversation_id, number, later, first.query, second.query))

    for turn in labelled_turns_of(plan, part):
        if members and turn.number == 0:
            collect()
            members = []
        members.append(turn)
    collect()
    return pairs


def compare(plan: Plan, part: Path, encode: Any) -> None:
    """Cosine similarity of the candidate pairs of one part, each text embedded once.

    Args:
        encode: list of texts → unit vectors (N, H).
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = plan.similarities / part.name
    if path.exists():
        return
    pairs = pairs_of(plan, part)
    texts = {text: row for row, text in enumerate(dict.fromkeys(text for pair in pairs for text in pair[3:]))}
    cosines: list[float] = []
    if pairs:
        vectors = encode(list(texts))
        first = vectors[[texts[pair[3]] for pair in pairs]]
        second = vectors[[texts[pair[4]] for pair in pairs]]
        cosines = (first * second).sum(1).tolist()
    columns = {
        "conversation_id": pa.array([pair[0] for pair in pairs], pa.string()),
        "turn": pa.array([pair[1] for pair in pairs], pa.int32()),
        "later": pa.array([pair[2] for pair in pairs], pa.int32()),
        "cosine": pa.array(cosines, pa.float32()),
    }
    with atomic_path(path) as temporary:
        pq.write_table(pa.table(columns), temporary)


def finish(plan: Plan, part: Path) -> None:
    """Decide about every turn of one part; write the candidates of the dataset, all levels, and last the counts."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from wildreward.dataset_builder.schema import CANDIDATE, LEVELS, level_row

    marker = plan.candidates / f"{part.stem}.json"
    if marker.exists():
        return
    similarities = {
        (row["conversation_id"], row["turn"], row["later"]): row["cosine"]
        for row in pq.read_table(plan.similarities / part.name).to_pylist()
    }
    verdicts = [row["verdict"] for row in read_answers(plan.refusals, part)]
    counts: Counter = Counter()
    levels, rows = [], []
    for turn in finish_turns(labelled_turns_of(plan, part), verdicts, similarities, plan.rules, counts):
        levels.append(level_row(turn))
        if turn.dropped is None:
            rows.append(_candidate_row(plan, turn))
    for folder in (plan.feedback, plan.refusals):
        for answer in read_answers(folder, part):
            counts["requests"] += answer["attempts"]
            counts["prompt_tokens"] += answer["prompt_tokens"]
            counts["completion_tokens"] += answer["completion_tokens"]
    with atomic_path(plan.turns / part.name) as temporary:
        pq.write_table(pa.Table.from_pylist(levels, schema=LEVELS), temporary, compression="zstd")
    with atomic_path(plan.candidates / part.name) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=CANDIDATE), temporary, compression="zstd")
    write_json(marker, dict(counts))


def _candidate_row(plan: Plan, turn: Turn) -> dict[str, Any]:
    from wildreward.dataset_builder.dedup import PERMUTATIONS, exact_key, signature
    from wildreward.dataset_builder.schema import instance_row
    from wildreward.dataset_builder.split import split_of

    return {
        **instance_row(turn),
        "split": split_of(turn.conversation, plan.seed, plan.test_fraction),
        "exact_key": exact_key(turn),
        "signature": signature(turn).tobytes() if plan.near_duplicates else bytes(4 * PERMUTATIONS),
    }
