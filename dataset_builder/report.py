"""`build_report.json`: the whole funnel in numbers."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from wildreward.dataset_builder.labelers.base import WORTH_ASKING_AGAIN
from wildreward.dataset_builder.privacy import redact
from wildreward.dataset_builder.records import LEVEL_TO_LABEL, UNLABELLED
from wildreward.names import public_name

# Settings that may be paths of this machine; the report and the card are published.
PATHS = ("source", "mining_encoder")


def make_report(
    *,
    source: Counter,
    source_dropped: dict[str, int],
    users: dict[str, int],
    turns: Counter,
    duplicates: dict[str, int],
    written: Counter,
    seconds: dict[str, float],
    settings: dict[str, Any],
    labeler: Mapping[str, Any],
) -> dict[str, Any]:
    """Put the counts of all steps together.

    Args:
        source: counts of the ingest step.
        source_dropped: reason → conversations that were not used.
        users: as `ingest.count_users` counts them, copies of conversations included; empty where an older version read.
        turns: counts of `finish.finish_turns` over all parts, with `requests` and tokens.
        duplicates: reason → candidates left out.
        written: counts of `writer.write_dataset`.
        seconds: stage → wall-clock seconds of this run.
        settings: what the result depends on.
        labeler: how right the labeler was when it was measured.
    """
    levels = {str(level): turns.get(f"levels.{level}", 0) for level in range(1, 6)}
    splits = {
        split: {str(label): written.get(f"splits.{split}.{label}", 0) for label in LEVEL_TO_LABEL.values()}
        for split in ("train", "test")
    }
    return {
        "records": source.get("records", 0),
        "conversations": source.get("conversations", 0) - source_dropped.get("duplicate_conversation", 0),
        "conversations_dropped": source_dropped,
        "conversations_truncated": source.get("truncated", 0),
        "users": users,
        "input_lost": _group(source, "lost"),
        "turns": turns.get("turns", 0),
        "labelled": sum(levels.values()),
        "unlabelled": _group(turns, "unlabelled"),
        "levels": levels,
        "mined": turns.get("mined", 0),
        "mining_pairs_not_compared": turns.get("pairs_not_compared", 0),
        "refusals": _group(turns, "refusals"),
        "refusals_not_judged": _group(turns, "unjudged"),
        "dropped": dict(sorted((Counter(_group(turns, "dropped")) + Counter(duplicates)).items())),
        "redacted": _group(turns, "redacted"),
        "kept": sum(sum(split.values()) for split in splits.values()),
        "splits": splits,
        "label_sources": label_sources(written),
        "languages": _top(_group(written, "language")),
        "models": _top(_group(written, "model")),
        "bytes": _group(written, "bytes"),
        "seconds": {stage: round(value, 2) for stage, value in seconds.items()},
        "requests": turns.get("requests", 0),
        "prompt_tokens": turns.get("prompt_tokens", 0),
        "completion_tokens": turns.get("completion_tokens", 0),
        "labeler": dict(labeler),
        "settings": settings | {name: redact(public_name(settings[name])) for name in PATHS if name in settings},
    }


def failed_questions(report: dict[str, Any]) -> int:
    """Questions that the labeler's server failed on and that are worth asking again."""
    unanswered = Counter(report["unlabelled"]) + Counter(report["refusals_not_judged"])
    return sum(unanswered[reason] for reason in WORTH_ASKING_AGAIN)


def nothing_kept(report: dict[str, Any]) -> str:
    """What became of all turns, for a build that kept none of them; "" otherwise."""
    if report["kept"]:
        return ""
    reasons = {**report["dropped"]}
    if reasons.pop(UNLABELLED, 0):
        reasons |= {f"unlabelled: {reason}": count for reason, count in report["unlabelled"].items()}
    listed = ", ".join(f"{reason} {count:,}" for reason, count in sorted(reasons.items(), key=lambda item: -item[1]))
    return (
        f"none of the {report['turns']:,} turns was kept ({listed or 'none has a follow-up'}), so there is no dataset"
    )


def label_sources(written: Counter) -> dict[str, dict[str, int]]:
    """label_source → level → kept instances."""
    table: dict[str, dict[str, int]] = {}
    for key, count in sorted(written.items()):
        if key.startswith("source."):
            _, source, level = key.split(".")
            table.setdefault(source, {})[level] = count
    return table


def funnel(report: dict[str, Any]) -> list[tuple[str, int]]:
    """The steps from records to instances, for the plot and the card."""
    clear = sum(report["levels"][level] for level in ("1", "2", "4", "5"))
    return [
        ("records read", report["records"]),
        ("conversations", report["conversations"]),
        ("turns with a follow-up", report["turns"]),
        ("labelled", report["labelled"]),
        ("clear attitude", clear),
        ("with implicit feedback", clear + report["mined"]),
        ("kept after filters", report["kept"]),
    ]


def _group(counts: Counter, prefix: str) -> dict[str, int]:
    start = f"{prefix}."
    return {key[len(start) :]: count for key, count in sorted(counts.items()) if key.startswith(start) and count}


def _top(counts: dict[str, int], size: int = 20) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:size])
