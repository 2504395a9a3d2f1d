"""Results as people and the Hub read them: library versions, Markdown tables beside published rows, result entries."""

import importlib.metadata
import platform
from collections.abc import Mapping
from typing import Any

PAPER = "https://arxiv.org/abs/2602.08829"

# Percent, as published in arXiv 2602.08829; one column a benchmark measure.
COLUMNS = {
    "reward_bench": "RewardBench",
    "rm_bench.easy": "RM-Bench easy",
    "rm_bench.normal": "RM-Bench normal",
    "rm_bench.hard": "RM-Bench hard",
    "ppe_human": "PPE human",
    "ppe_correctness": "PPE correctness",
    "judge_bench": "JudgeBench",
}
PUBLISHED = {
    "Skywork-Reward-Llama-3.1-8B-v0.2": (93.1, 70.5, 74.2, 49.3, 62.2, 62.5, 62.9),
    "INF-ORM-Llama3.1-70B": (95.1, 92.1, 80.0, 54.0, 64.2, 64.4, 70.2),
    "WildReward-4B": (83.6, 82.0, 77.0, 68.6, 61.6, 63.6, 61.1),
    "WildReward-8B": (86.0, 83.5, 78.4, 69.7, 62.5, 65.6, 66.0),
}
DATASET_ROWS = {
    "mae": "MAE (levels)",
    "rmse": "RMSE (levels)",
    "accuracy": "accuracy",
    "within_one_accuracy": "accuracy within one level",
    "qwk": "quadratic weighted kappa",
    "spearman": "Spearman",
    "kendall_tau_b": "Kendall tau-b",
    "roc_auc": "ROC-AUC",
}


def library_versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    names = ("wildreward", "torch", "transformers", "datasets", "evaluate", "numpy")
    found = {name: importlib.metadata.version(name) for name in names}
    return {"python": platform.python_version(), **found}


def _number(value: float | None, digits: int = 3, reason: str | None = None) -> str:
    shown = "–" if value is None else f"{value:.{digits}f}"
    return f"{shown} ({reason})" if reason else shown


def estimate_text(estimate: Mapping[str, Any], digits: int = 3, factor: float = 1.0) -> str:
    """`0.712 [0.650, 0.770]` of a `{"value", "low", "high"}`; a dash for none, with the `reason` where there is one."""
    if estimate["value"] is None:
        return _number(None, reason=estimate.get("reason"))
    text = _number(estimate["value"] * factor, digits)
    if estimate.get("low") is None:
        return text
    return f"{text} [{_number(estimate['low'] * factor, digits)}, {_number(estimate['high'] * factor, digits)}]"


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def dataset_table(name: str, result: Mapping[str, Any]) -> str:
    """Markdown of one held-out split's results."""
    classes = class_counts(result)
    rows = [
        [f"{title}{classes if key == 'roc_auc' else ''}", estimate_text(result[key])]
        for key, title in DATASET_ROWS.items()
        if key in result
    ]
    if "calibration" in result:
        calibration = result["calibration"]
        rows.append([f"ECE of P(positive){classes}", _number(calibration["ece"], reason=calibration.get("reason"))])
    if "pairs" in result:
        pairs = result["pairs"]
        rows.append([f"accuracy on {pairs['n']} pairs across prompts", estimate_text(pairs["accuracy"])])
        rows.append(["ECE of P(A better than B)", _number(pairs["ece"], reason=pairs.get("reason"))])
        bias = result["length_bias"]
        shorter = f"accuracy where the better answer is shorter ({bias['n_better_shorter'] or 0:.0f} pairs)"
        rows.append([shorter, _number(bias["accuracy_better_shorter"], reason=bias.get("reason"))])
        rows.append(["correlation of score with response length", _number(bias["score_length_spearman"])])
    head = f"### {name}, split {result['split']}\n\n{result['n']} instances of {result['users']} users; "
    return (
        head
        + "95% intervals resample users (Wilson's where these do not vary).\n\n"
        + table(["measure", "value"], rows)
    )


def class_counts(result: Mapping[str, Any]) -> str:
    """`, 12 positive and 88 negative rows`, as far as the results say."""
    if "n_positive" not in result:
        return ""
    return f", {result['n_positive']} positive and {result['n_negative']} negative rows"


def published_value(results: Mapping[str, Any], column: str) -> dict[str, float | None] | None:
    """The estimate that belongs in one column of the published table, or None where it was not run."""
    benchmark, _, part = column.partition(".")
    found = results.get("benchmarks", {}).get(benchmark)
    return None if found is None else found["parts"][part] if part else found["score"]


def benchmark_tables(results: Mapping[str, Any]) -> str:
    """Markdown of all benchmarks: one summary beside the published rows, then every subset."""
    benchmarks = results.get("benchmarks", {})
    if not benchmarks:
        return ""
    own = [results["model"]["name"]]
    for column in COLUMNS:
        value = published_value(results, column)
        own.append(estimate_text(value, 1, 100.0) if value else "–")
    rows = [own, *([name, *(f"{v:.1f}" for v in values)] for name, values in PUBLISHED.items())]
    parts = [
        f"### Benchmarks (%)\n\nAll rows but the first as published ([arXiv 2602.08829]({PAPER})).\n",
        table(["model", *COLUMNS.values()], rows),
    ]
    for name, result in benchmarks.items():
        subsets = [[key, str(s["n"]), estimate_text(s, 1, 100.0)] for key, s in result["subsets"].items()]
        parts.append(
            f"\n### {name}: {result['n']} items, {estimate_text(result['score'], 1, 100.0)}\n\n{result['rule']}\n\n"
            + table(["subset", "items", "score (%)"], subsets)
        )
    return "\n".join(parts)


def comparison_table(comparison: Mapping[str, Any]) -> str:
    """Markdown of a paired comparison."""
    rows = [
        [
            name,
            _number(d["a"]),
            _number(d["b"]),
            estimate_text(d | {"value": d["difference"]}),
            _number(d["p_value"]),
        ]
        for name, d in comparison["differences"].items()
    ]
    head = f"### {comparison['a']} (A) against {comparison['b']} (B)\n\nPaired bootstrap on the same items.\n\n"
    return head + table(["measure", "A", "B", "A − B [95% interval]", "p"], rows)


def markdown(results: Mapping[str, Any]) -> str:
    """All results as one Markdown text: of one model, or of a comparison of two."""
    if "comparison" in results:
        return f"## Comparison\n\n{comparison_table(results['comparison'])}\n"
    parts = [f"## Evaluation of {results['model']['name']}"]
    parts += [dataset_table(name, result) for name, result in results.get("datasets", {}).items()]
    if tables := benchmark_tables(results):
        parts.append(tables)
    return "\n\n".join(parts) + "\n"
