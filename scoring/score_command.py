"""`wildreward score`: rows of conversations in, their scores out, or the rows that a rule selects by them; a run that was stopped
goes on where it was."""

import json
import logging
import math
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from wildreward.common.chat import Message
from wildreward.common.errors import UserError
from wildreward.common.files import FolderLock, append_lines, complete_lines
from wildreward.common.progress import progress
from wildreward.common.rows import SUFFIXES
from wildreward.common.settings import check_above, check_least, claim
from wildreward.scoring.load import MODEL_HELP, LoadingConfig, load_scorer
from wildreward.scoring.protocol import NotFinite, RewardSourceError, Scored, Scorer
from wildreward.scoring.score_input import COMPLETIONS, FIRST_ROWS, Row, ScoreInput
from wildreward.scoring.score_output import check_writable, output_schema, write_card, write_dataset, write_lines
from wildreward.scoring.selecting import ALL, Rule, read_rule, select

logger = logging.getLogger(__name__)

CHUNK_CHARACTERS = 16 << 20  # of conversations scored between two writes, whatever their number
NOT_FINITE = "the model gives no finite score"


@dataclass
class ScoreConfig(LoadingConfig):
    """What to score, with what, what is kept, and where it goes."""

    model: str = field(metadata={"help": MODEL_HELP})
    input: str = field(
        metadata={
            "help": "JSON Lines or JSON (also .gz), parquet, a folder of them or of save_to_disk, or a Hub id; each row has "
            "`messages` that end with the assistant's answer, or `prompt` with `completion` or `completions` (texts or messages), "
            "and may have `id`."
        }
    )
    output: str = field(
        metadata={
            "help": "A .jsonl file (for each row, in its order, `line` or `row`, `id`, and `score` and `level_probs` or `error`), "
            "or a dataset folder with all columns of the rows beside `score`, `level_probs`, `error`; with --select the rows "
            "that are kept."
        }
    )
    select: str | None = field(
        default=None,
        metadata={
            "help": "What to keep: `best` (of the completions of each prompt), `pairs` (the best against the worst, as prompt, "
            "chosen, rejected), or `above=S` (answers with a score of at least S)."
        },
    )
    margin: float = field(
        default=0.0,
        metadata={"help": "With --select pairs: smallest difference of the two scores; equal ones are no pair."},
    )
    split: str = field(default="train", metadata={"help": "Split of a Hub dataset, or of a folder that has splits."})
    dataset_revision: str | None = field(default=None, metadata={"help": "Revision of a dataset on the Hub."})
    chunk_size: int = field(default=256, metadata={"help": "Conversations scored between two writes to disk."})


CONFIGS = (ScoreConfig,)


def score_rows(config: ScoreConfig) -> dict[str, int]:
    """Score all rows and write them, or what is selected of them. Until all is done the scores are kept in `<output>.work/`.

    Returns:
        How many rows were `scored`, how many were not for an `error`, and how many rows were `selected`.

    Raises:
        UserError: the model or the data cannot be opened, the output exists, another run is at it, an earlier one had other
            settings, or nothing can be scored or is selected.
    """
    least = {"chunk_size": 1, "token_budget": 1, "max_length": 1, "margin": 0}
    check_least(*((name, getattr(config, name), number) for name, number in least.items()))
    check_above(("beta", config.beta, 0))
    rule, output = read_rule(config.select, config.margin), Path(config.output)
    if output.name.endswith(SUFFIXES) and output.suffix != ".jsonl":
        raise UserError(f"--output is {output}; expected a .jsonl file or a folder")
    _check_new(output)
    source = ScoreInput(config.input, config.split, config.dataset_revision)
    source.check(rule)
    schema = None
    if output.suffix != ".jsonl":
        schema = output_schema(source.schema(), source.form, rule)
        check_writable([row for _, row in islice(source.rows(), FIRST_ROWS) if isinstance(row, dict)], schema)
    work = output.with_name(output.name + ".work")
    with FolderLock(work):
        _check_new(output)  # a run that has just ended may have written it
        scorer = load_scorer(config.model, **config.loading())
        settings = {"model": scorer.name, "fingerprint": scorer.fingerprint, "input_sha256": source.digest()}
        scores = work / "scores.jsonl"
        with claim(work, settings, begun=lambda: scores.exists() and scores.stat().st_size > 0):
            counts = _score(scorer, source, scores, config.chunk_size)
        _write(config, scorer, source, rule, schema, scores, counts)
        for name in ("scores.jsonl", ".lock", "settings.json"):
            (work / name).unlink()
        if not any(work.iterdir()):  # there may be something in it that is not ours
            work.rmdir()
    return counts


def _check_new(output: Path) -> None:
    if output.exists():
        raise UserError(f"{output} exists already; choose another --output, or remove it")


# ---- scores, a chunk of them a line of a file


def _score(scorer: Scorer, source: ScoreInput, path: Path, chunk_size: int) -> dict[str, int]:
    """Score what an earlier run has not. A chunk is written whole or not at all, so that a run which goes on makes the same
    chunks, and the same batches, as one that was not stopped."""
    counts = {"scored": 0, "error": 0}
    for _, line in complete_lines(path):  # what an earlier run has written
        try:
            _count(counts, json.loads(line))
        except (ValueError, TypeError) as error:
            raise UserError(f"{path} holds a line that is no score; delete {path.parent} to begin again") from error
    done = sum(counts.values())
    if done:
        logger.info("going on after %d rows", done)
    with progress("score", source.count(), initial=done, unit="row") as bar:
        for chunk in _chunks(source, done, chunk_size):
            results = _score_chunk(scorer, chunk, source.form == COMPLETIONS, first=not counts["scored"])
            append_lines(path, [results])
            _count(counts, results)
            bar.update(len(chunk))
    if not counts["scored"]:
        reason = next(_results(path))["error"]
        path.unlink()
        raise UserError(f"no row of {source.place} could be scored; the first: {reason}")
    return counts


def _count(counts: dict[str, int], results: list[Mapping[str, Any]]) -> None:
    for result in results:
        counts["scored" if "score" in result else "error"] += 1


def _chunks(source: ScoreInput, done: int, size: int) -> Iterator[list[Row]]:
    """All rows but the first `done`, a chunk at a time."""
    chunk, answers, volume = [], 0, 0
    for place, row in islice(source.rows(), done, None):
        chunk.append(source.read(place, row))
        answers += max(1, len(chunk[-1].conversations))
        volume += sum(len(message["content"]) for messages in chunk[-1].conversations for message in messages)
        if answers >= size or volume >= CHUNK_CHARACTERS:
            yield chunk
            chunk, answers, volume = [], 0, 0
    if chunk:
        yield chunk


def _score_chunk(scorer: Scorer, chunk: list[Row], many: bool, first: bool) -> list[dict[str, Any]]:
    scored = iter(_scores(scorer, [messages for row in chunk for messages in row.conversations], first))
    return [_result(row, list(islice(scored, len(row.conversations))), many) for row in chunk]


def _result(row: Row, scored: list[Scored | str | None], many: bool) -> dict[str, Any]:
    """What is kept of a row: where it is, `score` and `level_probs` (of completions a list of each), and what went wrong."""
    good = [one if isinstance(one, Scored) and math.isfinite(one.score) else None for one in scored]
    bad = [place for place, one in enumerate(good) if one is None]
    result = dict(row.where)
    if len(bad) < len(good):
        scores = [one and one.score for one in good]
        probs = [one and one.level_probs and list(one.level_probs) for one in good]
        result["score"] = scores if many else scores[0]
        if any(probs):
            result["level_probs"] = probs if many else probs[0]
    if row.error or bad:
        reason = row.error or (scored[bad[0]] if isinstance(scored[bad[0]], str) else NOT_FINITE)
        result["error"] = reason if row.error or not many else f"completion {bad[0] + 1}: {reason}"
    return result


def _scores(scorer: Scorer, conversations: list[list[Message]], first: bool) -> list[Scored | str | None]:
    """Scores; where the model refuses a chunk, each conversation alone, so that one cannot spoil the others.

    Raises:
        UserError: the server failed, or the `first` conversations, more than one, are all refused: it is the model.
    """
    try:
        return list(scorer.score(conversations))
    except RewardSourceError as error:
        raise UserError(f"{error}; what was scored before is kept, run the same command again") from error
    except ValueError as error:
        if len(conversations) == 1:
            return [NOT_FINITE if isinstance(error, NotFinite) else str(error).removeprefix("conversation 0: ")]
        refusal = error
    found = [one for messages in conversations for one in _scores(scorer, [messages], False)]
    if first and all(isinstance(one, str) for one in found):
        raise UserError(f"{scorer.name} cannot score the first {len(found)} conversations ({refusal})") from refusal
    return found


# ---- what is made of them


def _results(path: Path) -> Iterator[dict[str, Any]]:
    with open(path, "rb") as handle:
        for line in handle:
            yield from json.loads(line)


def _write(
    config: ScoreConfig,
    scorer: Scorer,
    source: ScoreInput,
    rule: Rule,
    schema: Any,
    scores: Path,
    counts: dict[str, int],
) -> None:
    """Write the output beside the scores, and put it in its place when it is complete."""
    left_out: Counter[str] = Counter()

    def selected() -> Iterator[dict[str, Any]]:
        for (_, row), result in zip(source.rows(), _results(scores), strict=True):
            found = select(rule, row if isinstance(row, dict) else {}, result)
            if isinstance(found, str):
                left_out[found] += 1
            else:
                yield from found

    made, output = scores.with_name("output"), Path(config.output)
    if made.is_dir():  # an earlier run was stopped here
        shutil.rmtree(made)
    if schema is not None:
        kept = write_dataset(made, config.split, selected(), schema)
    else:
        kept = write_lines(made, _results(scores) if rule.kind == ALL else selected())
    if not kept:
        told = ", ".join(f"{count:,} {why}" for why, count in left_out.most_common())
        raise UserError(
            f"no row is selected of {sum(left_out.values()):,} ({told}); the scores are kept in {scores.parent}: run the command "
            "again with another --select or --margin"
        )
    if rule.kind != ALL:
        counts["selected"] = kept
    if schema is not None:
        facts = _facts(config, scorer, source, counts) | {f"rows {why}": f"{n:,}" for why, n in left_out.items()}
        write_card(made, config.split, schema, rule, source.name, facts)
    os.replace(made, output)


def _facts(config: ScoreConfig, scorer: Scorer, source: ScoreInput, counts: Mapping[str, int]) -> dict[str, Any]:
    """What the card tells."""
    data = {"input": source.name}
    if source.data is not None:
        data |= {"input split": config.split, "input revision": source.origin["revision"]}
    model = {"model": scorer.name, "model revision": scorer.revision, "model fingerprint": scorer.fingerprint}
    rows = {"scored rows": "scored", "rows with an error": "error", "selected rows": "selected"}
    return model | scorer.settings | data | {told: f"{counts[name]:,}" for told, name in rows.items() if name in counts}


def main(config: ScoreConfig) -> None:
    """Run the command."""
    counts = score_rows(config)
    told = f", {counts['error']:,} rows with an error" if counts["error"] else ""
    kept = f", {counts['selected']:,} selected" if "selected" in counts else ""
    print(f"{counts['scored']:,} rows scored{told}{kept}: {config.output}")
