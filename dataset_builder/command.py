"""`wildreward build-dataset`: chats to a dataset of user feedback."""

from wildreward.common.errors import UserError
from wildreward.dataset_builder.build import run_build
from wildreward.dataset_builder.preview import preview
from wildreward.dataset_builder.report import failed_questions, funnel, nothing_kept
from wildreward.dataset_builder.settings import BuildSettings

CONFIGS = (BuildSettings,)


def main(settings: BuildSettings) -> None:
    """Build the dataset and print what came out; or print what would."""
    if settings.dry_run:
        print(preview(settings))
        return
    report = run_build(settings)
    print(summary(report, settings.output))
    if reason := nothing_kept(report):
        raise UserError(f"{reason}; {settings.output}/work/levels.parquet says what became of each turn")


def summary(report: dict, output: str) -> str:
    """A few lines for the terminal."""
    lines = [f"{name:<36}{value:>12,}" for name, value in funnel(report)]
    lines += [f"{split:<36}{sum(labels.values()):>12,}" for split, labels in report["splits"].items()]
    lost = {**report["input_lost"], **report["conversations_dropped"]}
    for title, counts in (
        ("not used", lost),
        ("unlabelled", report["unlabelled"]),
        (
            "ratings",
            {"used": report["ratings"]["used"], **report["ratings"]["not_used"]} if report["ratings"]["found"] else {},
        ),
        ("left out", report["dropped"]),
        ("refusals not judged", report["refusals_not_judged"]),
    ):
        if counts:
            lines.append(f"{title}: " + ", ".join(f"{reason} {count:,}" for reason, count in counts.items()))
    if failed := failed_questions(report):
        lines.append(f"the endpoint failed on {failed:,} questions; --ask_failed_again asks them again")
    if report["users_doubt"]:
        lines.append(f"users: {report['users_doubt']}")
    if report["kept"]:
        lines.append(f"dataset: {output}")
    return "\n".join(lines)
