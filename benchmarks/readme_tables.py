"""Writes the README's tables from `benchmarks/results/`: python benchmarks/readme_tables.py [--check]"""

import json
import re
import sys
from pathlib import Path

from wildreward.common.tables import estimate_text as interval

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"


def quickstart_table() -> str:
    """What `make quickstart` gave: its `summary.json`, kept as results/quickstart.json."""
    summary = json.loads((RESULTS / "quickstart.json").read_text())
    splits, held_out, reward = summary["splits"], summary["held_out"], summary["policy_reward"]
    rows = [
        ("conversations, turns with a follow-up", f"{summary['conversations']:,}, {summary['turns']:,}"),
        ("instances kept (train, test)", f"{summary['kept']:,} ({splits['train']:,}, {splits['test']:,})"),
        ("ROC-AUC on held-out users, positive against negative feedback", interval(held_out["roc_auc"])),
        ("mean absolute error on held-out users, in levels", interval(held_out["mae"])),
        (
            "policy reward on held-out prompts before, after; their difference on the same prompts",
            f"{interval(reward['before'])}, {interval(reward['after'])}; {interval(reward['difference'])}",
        ),
        ("minutes, peak memory", f"{summary['seconds_total'] / 60:.1f}, {summary['peak_memory_gb']:.1f} GB"),
    ]
    return table(("`make quickstart`", "95% intervals"), rows)


def benchmark_table() -> str:
    """Every other result file, in order of name."""
    rows = []
    for path in sorted(RESULTS.glob("*.json")):
        if path.stem == "quickstart":
            continue
        result = json.loads(path.read_text())
        for number, row in enumerate(result["rows"]):
            source = f"`{result['command']}` on {result['device']}" if number == 0 else ""
            rows.append((row["measure"], *(text(row.get(key, "")) for key in ("ours", "alternative", "ratio")), source))
    return table(("measured", "ours", "alternative", "ratio", "by"), rows)


def text(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def render(readme: str) -> str:
    """The README with both tables written anew."""
    for name, content in (("quickstart", quickstart_table()), ("benchmarks", benchmark_table())):
        pattern = rf"(<!-- table:{name} -->).*(<!-- /table:{name} -->)"
        readme = re.sub(pattern, lambda match, new=content: f"{match[1]}\n{new}\n{match[2]}", readme, flags=re.S)
    return readme


if __name__ == "__main__":
    before = (ROOT / "README.md").read_text()
    after = render(before)
    if "--check" in sys.argv:
        message = "README.md differs from its result files; run python benchmarks/readme_tables.py"
        sys.exit(message if before != after else 0)
    (ROOT / "README.md").write_text(after)
