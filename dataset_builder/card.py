"""The dataset's card: YAML that `datasets` and the Hub can parse, and statistics taken from the report."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from wildreward.common.cards import merge_card, section
from wildreward.common.files import atomic_path
from wildreward.dataset_builder.refusals import NOT_JUDGED
from wildreward.dataset_builder.report import funnel
from wildreward.dataset_builder.schemas import INSTANCE, UNPAIRED

CONFIGS = (("default", "data", INSTANCE, True), ("unpaired_preference", "unpaired_preference", UNPAIRED, False))
MOST_UNKNOWN = 0.1  # share of the rows
_CODES = {"english": "en", "chinese": "zh"}
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def write(path: Path, report: dict[str, Any], *, title: str, figures: list[str]) -> None:
    """Write the card; what a person wrote in one that is there already stays."""
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    text = merge_card(before, render(report, title=title, figures=figures))
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def render(report: dict[str, Any], *, title: str, figures: list[str]) -> str:
    """The text of `README.md`, generated but for what a person writes before and after it.

    Args:
        report: as `report.make_report` makes it.
        title: name of the dataset.
        figures: file names under `figures/`.
    """
    import yaml

    header = yaml.safe_dump(metadata(report, title), sort_keys=False, allow_unicode=True)
    parts = (_about(report, title), _labels(report), _steps(report, figures), _limits(report))
    page = section("\n\n".join(part.strip() for part in parts))
    return f"---\n{header}---\n\n{page}\n"


def metadata(report: dict[str, Any], title: str) -> dict[str, Any]:
    """The card's YAML as a dictionary."""
    kept = report["kept"]
    languages = sorted({_CODES[name.lower()] for name in report["languages"] if name.lower() in _CODES})
    if report["languages"].get("unknown", 0) > MOST_UNKNOWN * kept:
        languages = []  # the few that are known would pass for all: people and crawlers filter by this field
    return {
        "pretty_name": title,
        **({"language": languages} if languages else {}),
        "task_categories": ["text-classification"],
        "size_categories": [next((name for size, name in _SIZES if kept < size), "1M<n<10M")],
        "tags": ["reward-model", "human-feedback", "wildreward"],
        "configs": [
            {
                "config_name": name,
                **({"default": True} if default else {}),
                "data_files": [{"split": split, "path": f"{folder}/{split}-*.parquet"} for split in _filled(report)],
            }
            for name, folder, _, default in CONFIGS
        ],
        "dataset_info": [
            {"config_name": name, "features": _features(schema), "splits": _splits(report, folder)}
            for name, folder, schema, _ in CONFIGS
        ],
    }


def _splits(report: dict[str, Any], folder: str) -> list[dict[str, Any]]:
    return [
        {
            "name": split,
            "num_bytes": report["bytes"].get(f"{folder}.{split}", 0),
            "num_examples": sum(labels.values()),
        }
        for split, labels in _filled(report).items()
    ]


def _filled(report: dict[str, Any]) -> dict[str, dict[str, int]]:
    """The splits that have rows; `datasets` cannot load one without."""
    return {split: labels for split, labels in report["splits"].items() if any(labels.values())}


def _features(schema: pa.Schema | pa.StructType) -> list[dict[str, Any]]:
    return [{"name": field.name, **_feature(field.type)} for field in schema]


def _feature(kind: pa.DataType) -> dict[str, Any]:
    if pa.types.is_list(kind):
        return {"list": _features(kind.value_type)}
    if pa.types.is_struct(kind):
        return {"struct": _features(kind)}
    return {"dtype": {"float": "float32"}.get(str(kind), str(kind))}


def _table(header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += [
        "| " + " | ".join(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row) + " |" for row in rows
    ]
    return "\n".join(lines)


def _about(report: dict[str, Any], title: str) -> str:
    settings = report["settings"]
    return f"""# {title}

Feedback that users gave in real chats: for each instance the conversation so far, the answer of the assistant, what the
user said next, and a level read from it. {report["kept"]:,} instances from {report["conversations"]:,} conversations, built by
`wildreward build-dataset --source {settings["source"]} --labeler {settings["labeler"]}`.

```python
from datasets import load_dataset

data = load_dataset("PATH_OR_REPO")                          # instances for an ordinal reward model
pairs = load_dataset("PATH_OR_REPO", "unpaired_preference")  # prompt, completion, label for TRL's KTOTrainer
```"""


def _labels(report: dict[str, Any]) -> str:
    splits = [
        (split, *(labels[str(label)] for label in range(1, 5)), sum(labels.values()))
        for split, labels in report["splits"].items()
    ]
    sources = [
        (source, *(levels.get(level, 0) for level in ("1", "2", "4", "5")))
        for source, levels in report["label_sources"].items()
    ]
    return f"""## Labels

`level` is 1 rejection, 2 error correction, 4 positive engagement, 5 satisfaction (3, neutral, is left out); `label` is the
same as 1, 2, 3, 4. `label_source` is `explicit` (read in the follow-up by the `{report["settings"]["labeler"]}` labeler),
`rating` (the user rated the answer), `mined` (a neutral turn that took the level of praise shortly after, on the same topic)
or `refusal` (a refusal that a judge found right).

{_table(("split", "label 1", "label 2", "label 3", "label 4", "all"), splits)}

{_table(("label source", "level 1", "level 2", "level 4", "level 5"), sources)}

{_ratings(report)}{_refusals(report)}

{_split(report["users"])}"""


def _split(users: dict[str, int]) -> str:
    """What is on the same side, and for how many conversations that says less than it seems to."""
    if users["users"] < 2:
        alike = "Conversations that begin alike, and branches of one chat, are on the same side of the split."
        known = "No conversation says who its user is" if not users["with"] else "Only one user is known"
        return f"{alike}\n\n**{known}**, so a user of several may be on both sides."
    text = "All turns of one user are on the same side of the split (of one conversation, where the user is not known)."
    share = users["without"] / (users["with"] + users["without"])
    return f"{text} {share:.0%} of the conversations do not say who their user is." if share else text


def _ratings(report: dict[str, Any]) -> str:
    """What users' ratings were taken for, and how far they agree with what the labeler read. "" where there are none."""
    ratings = report["ratings"]
    if not ratings["turns"]:
        return ""
    worth = "; ".join(
        f"{level or 'nothing'}: {', '.join(sorted(rating for rating, each in ratings['levels'].items() if each == level))}"
        for level in sorted(set(ratings["levels"].values()), key=lambda level: level or 0)
    )
    left = ", ".join(f"{reason} {count:,}" for reason, count in ratings["not_used"].items())
    text = f"""Users rated {sum(ratings["turns"].values()):,} of the turns; a rating goes before what is read in the follow-up, which is empty where
the user said nothing more. Ratings by level, {worth}.{f" Not used: {left}." if left else ""}

"""
    table = ratings["agreement"]
    if not table:
        return text
    words = ("negative", "neutral", "positive")
    rows = [(f"rated {rating}", *(table.get(rating, {}).get(word, 0) for word in words)) for rating in words]
    return f"""{text}Where the labeler read a follow-up of a rated turn, too{_agreement(table)}:

{_table(("", *(f"read {word}" for word in words)), rows)}

"""


def _agreement(table: dict[str, dict[str, int]]) -> str:
    """In how many of those where neither is neutral both say the same."""
    sides = ("negative", "positive")
    clear = sum(table.get(one, {}).get(other, 0) for one in sides for other in sides)
    same = sum(table.get(side, {}).get(side, 0) for side in sides)
    return f" (of {clear:,} where both are clear, they agree on {same / clear:.0%})" if clear else ""


def _refusals(report: dict[str, Any]) -> str:
    """What became of refusals that users disliked; those that nobody judged are named, for their level may mislead."""
    verdicts, unjudged = report["refusals"], report["refusals_not_judged"]
    if not verdicts:
        return "No answer with negative feedback looked like a refusal."
    judged = {verdict: count for verdict, count in verdicts.items() if verdict != NOT_JUDGED}
    text = f"{sum(verdicts.values()):,} answers with negative feedback look like refusals."
    if judged:
        listed = ", ".join(f"{verdict} {count:,}" for verdict, count in judged.items())
        text += f" Verdicts of the judge: {listed}; only `justified_refusal` changes a level, to 5."
    if unjudged:
        listed = ", ".join(f"{reason} {count:,}" for reason, count in unjudged.items())
        text += (
            f" **{sum(unjudged.values()):,} were not judged** ({listed}) and keep their negative level, also where refusing "
            "was right: a reward model trained on them may learn to like harmful answers."
        )
    return text


def _steps(report: dict[str, Any], figures: list[str]) -> str:
    reasons = sorted(report["dropped"].items(), key=lambda item: (-item[1], item[0]))
    pictures = "\n\n".join(f"![{name.split('.')[0]}](figures/{name})" for name in figures)
    return f"""## How it came about

{_table(("step", "count"), funnel(report))}

{pictures}

Turns left out, by reason:

{_table(("reason", "turns"), reasons)}"""


def _labeler(report: dict[str, Any]) -> str:
    """How right the classifier was on labelled follow-ups of users that it was not trained on, by threshold."""
    rows = report["labeler"].get("trade_off")
    if not rows:
        return " "
    table = _table(
        tuple(name.replace("_", " ") for name in rows[0]), [tuple(_or_dash(v) for v in row.values()) for row in rows]
    )
    taken = report["settings"].get("labeler.min_confidence")
    return f""" How right it was on {report["labeler"]["turns"]["test"]:,} labelled
follow-ups of English chats whose users it was not trained on, by `--min-confidence` (here: {"default" if taken is None else taken});
of languages other than English it knows a few phrases, which were hardly measured:

{table}

"""


def _or_dash(value: Any) -> Any:
    return "–" if value is None else value


def _by_whom(report: dict[str, Any]) -> str:
    labeler, sources = report["settings"]["labeler"], report["label_sources"]
    if not sources.get("rating"):
        return f"Levels were assigned by the `{labeler}` labeler, not by people."
    if set(sources) == {"rating"}:
        return "Levels are users' own ratings."
    return f"Levels are users' own ratings where `label_source` is `rating`, else assigned by the `{labeler}` labeler, not by people."


def _private(settings: dict[str, Any]) -> str:
    kept = ["personal data"] if settings["personal_data"] == "keep" else []
    kept += ["keys and passwords"] if settings["keep_secrets"] else []
    text = f"Personal data (`{settings['personal_data']}`) and\ncredentials were searched by pattern, which cannot find everything."
    return f"**Published on request: {' and '.join(kept)}.** {text}" if kept else text


def _limits(report: dict[str, Any]) -> str:
    settings = report["settings"]
    return f"""## Limits

{_by_whom(report)}{_labeler(report)}A follow-up says how one user took one answer,
which is not the same as the answer being right. {_private(settings)} The licence and the terms of the source apply."""
