"""`build_report.json`: the whole funnel in numbers."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from wildreward.common.llm.answers import WORTH_ASKING_AGAIN
from wildreward.common.names import public_name
from wildreward.dataset_builder.privacy import redact
from wildreward.dataset_builder.records import DUPLICATE_CONVERSATION, LEVEL_TO_LABEL
from wildreward.dataset_builder.shards import doubt_about_users

# Settings that may be paths of this machine; the report and the card are published.
PATHS = ("source", "mining_encoder")
MOST_RATINGS = 30  # different ones, in the report and on the card


def make_report(
    counts: Counter,
    *,
    users: dict[str, int],
    ratings: dict[str, Any],
    seconds: dict[str, float],
    settings: dict[str, Any],
    labeler: Mapping[str, Any],
) -> dict[str, Any]:
    """Put the counts of all stages together.

    Args:
        counts: of the stages `read`, `select`, `dedup` and `export`.
        users: as `shards.count_users` counts them, copies of conversations included.
        ratings: as `labelers.rating.weigh` weighs them.
        seconds: stage → wall-clock seconds of this run.
        settings: what the result depends on.
        labeler: how right the labeler was when it was measured.
    """
    levels = {str(level): counts.get(f"levels.{level}", 0) for level in range(1, 6)}
    splits = {
        split: {str(label): counts.get(f"splits.{split}.{label}", 0) for label in LEVEL_TO_LABEL.values()}
        for split in ("train", "test")
    }
    return {
        "records": counts.get("records", 0),
        "conversations": counts.get("conversations", 0) - counts.get(f"rejected.{DUPLICATE_CONVERSATION}", 0),
        "conversations_dropped": _group(counts, "rejected"),
        "conversations_truncated": counts.get("truncated", 0),
        "messages_lost": _group(counts, "messages_lost"),
        "messages_changed": _group(counts, "messages_changed"),
        "users": users,
        "users_doubt": doubt_about_users(users),
        "input_lost": _group(counts, "lost"),
        "turns": counts.get("turns", 0),
        "turns_without_follow_up": counts.get("without_follow_up", 0),
        "labelled": sum(levels.values()),
        "unlabelled": _group(counts, "unlabelled"),
        "levels": levels,
        "mined": counts.get("mined", 0),
        "mining_pairs_not_compared": counts.get("pairs_not_compared", 0),
        "ratings": _ratings(ratings, counts),
        "refusals": _group(counts, "refusals"),
        "refusals_not_judged": _group(counts, "unjudged"),
        "dropped": _group(counts, "dropped"),
        "redacted": _group(counts, "redacted"),
        "kept": sum(sum(split.values()) for split in splits.values()),
        "splits": splits,
        "label_sources": label_sources(counts),
        "languages": _top(_group(counts, "language")),
        "models": _top(_group(counts, "model")),
        "bytes": _group(counts, "bytes"),
        "seconds": seconds,
        "requests": counts.get("requests", 0),
        "prompt_tokens": counts.get("prompt_tokens", 0),
        "completion_tokens": counts.get("completion_tokens", 0),
        "labeler": dict(labeler),
        "settings": settings | {name: redact(public_name(settings[name])) for name in PATHS if name in settings},
    }


def _ratings(weighed: dict[str, Any], counts: Counter) -> dict[str, Any]:
    """What became of users' ratings; `agreement`: rating → what the labeler read in the follow-up → turns."""
    agreement: dict[str, dict[str, int]] = {}
    for both, count in _group(counts, "agreement").items():
        rating, read = both.split(".")
        agreement.setdefault(rating, {})[read] = count
    levels = dict(list(weighed["levels"].items())[:MOST_RATINGS])
    return {**weighed, "levels": levels, "turns": _group(counts, "rated"), "agreement": agreement}


def failed_questions(report: dict[str, Any]) -> int:
    """Questions that the labeler's server failed on and that are worth asking again."""
    unanswered = Counter(report["unlabelled"]) + Counter(report["refusals_not_judged"])
    return sum(unanswered[reason] for reason in WORTH_ASKING_AGAIN)


def nothing_kept(report: dict[str, Any]) -> str:
    """What became of all turns, for a build that kept none of them; "" otherwise."""
    if report["kept"]:
        return ""
    reasons = {**report["dropped"]}
    if reasons.pop("unlabelled", 0):
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
        (f"turns with a follow-up{' or a rating' if report['ratings']['turns'] else ''}", report["turns"]),
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
