"""Results as people and the Hub read them: library versions, Markdown tables beside published rows, result entries."""

import importlib.metadata
import platform
from collections.abc import Mapping
from typing import Any

from wildreward.common.contrast import KINDS
from wildreward.common.tables import estimate_text, markdown_table, number_text
from wildreward.evaluation.statistics import MIN_CLASS_ROWS

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
        rows.append([f"ECE of P(positive){classes}", number_text(calibration["ece"], reason=calibration.get("reason"))])
    if "pairs" in result:
        pairs = result["pairs"]
        rows.append([f"accuracy on {pairs['n']} pairs across prompts", estimate_text(pairs["accuracy"])])
        rows.append(["ECE of P(A better than B)", number_text(pairs["ece"], reason=pairs.get("reason"))])
        for known, title in (("conversation", "same conversation"), ("user", "same user")):
            if result["pairs"].get(f"n_same_{known}"):
                rows.append([f"accuracy on pairs of the {title}", number_text(pairs[f"accuracy_same_{known}"])])
        if pairs.get("accuracy_across_users") is not None:
            rows.append(["accuracy on pairs of two users", number_text(pairs["accuracy_across_users"])])
        bias = result["length_bias"]
        shorter = f"accuracy where the better answer is shorter ({bias['n_better_shorter'] or 0:.0f} pairs)"
        rows.append([shorter, number_text(bias["accuracy_better_shorter"], reason=bias.get("reason"))])
        rows.append(["correlation of score with response length", number_text(bias["score_length_spearman"])])
    head = f"### {name}, split {result['split']}\n\n{result['n']} instances of {result['users']} users; "
    return (
        head
        + "95% intervals resample users (Wilson's where these do not vary).\n\n"
        + markdown_table(["measure", "value"], rows)
        + margin_table(result.get("pairs", {}))
    )


def margin_table(pairs: Mapping[str, Any]) -> str:
    """Markdown of calibration by score margin; empty where it was withheld."""
    rows = [
        [
            f"{one['low']:.3f} to {one['high']:.3f}",
            str(one["n"]),
            number_text(one["stated"]),
            number_text(one["accuracy"]),
        ]
        for one in pairs.get("by_score_margin") or []
    ]
    return f"\n\n{markdown_table(['score margin', 'pairs', 'stated', 'accuracy'], rows)}" if rows else ""


def pairs_table(name: str, result: Mapping[str, Any]) -> str:
    """Markdown of one set of pairs."""
    rows = [["accuracy", estimate_text(result["accuracy"])]]
    rows += [[key, estimate_text(value)] for key, value in result.get("parts", {}).items()]
    rows += [[f"{key} ({s['n']} pairs)", estimate_text(s)] for key, s in result.get("subsets", {}).items()]
    if "calibration" in result:
        calibration = result["calibration"]
        rows.append(["ECE of P(chosen better)", number_text(calibration["ece"], reason=calibration.get("reason"))])
    if "length_bias" in result:
        bias = result["length_bias"]
        for side in ("shorter", "longer"):
            title = f"accuracy where the chosen answer is {side} ({bias[f'n_better_{side}'] or 0:.0f} pairs)"
            rows.append([title, number_text(bias[f"accuracy_better_{side}"], reason=bias.get("reason"))])
    for one in result.get("by_margin", []):
        rows.append(
            [f"accuracy at margin {one['low']:g} to {one['high']:g} ({one['n']} pairs)", number_text(one["accuracy"])]
        )
    if "ties" in result:
        ties = result["ties"]
        title = f"ROC-AUC of the score difference, decided pairs against {result['n_ties']} ties"
        rows.append([title, number_text(ties["roc_auc"], reason=ties.get("reason"))])
    rows += judge_rows(result)
    rule = result.get("rule", "") + _incomplete(result)
    return (
        f"### {name}: {result['n']} pairs of {result.get('prompts', 0)} prompts\n\n{rule} 95% intervals resample prompts.\n\n"
        + markdown_table(["measure", "value"], rows)
        + margin_table(result.get("calibration", {}))
    )


def judge_rows(result: Mapping[str, Any]) -> list[list[str]]:
    """How a judge behaved, for a table of measures; nothing of a reward model."""
    if "judge" not in result:
        return []
    told = result["judge"]
    reasons = ", ".join(f"{reason} {count}" for reason, count in told["reasons"].items())
    return [
        ["both orders contradict each other, share of pairs", number_text(told["contradictions"])],
        ["no preference otherwise, share of pairs", number_text(told["ties"])],
        ["the answer shown first is preferred (0.5: no position bias)", number_text(told["first_preferred"])],
        [
            f"failed, share of {told['n']} pairs" + (f" (answers: {reasons})" if reasons else ""),
            number_text(told["failed"]),
        ],
    ]


def asked_text(asked: Mapping[str, Any]) -> str:
    """What a judge was asked, in all runs, and what that cost."""
    cost = f", cost {asked['cost']:,.2f}" if asked["cost"] else ""
    return (
        f"{asked['answers']:,} answers to {asked['requests']:,} requests: {asked['prompt_tokens']:,} prompt and "
        f"{asked['completion_tokens']:,} completion tokens{cost}."
    )


def preferred(kinds: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Kinds of broken answers that a model scores above the real one more often than not, told from `MIN_CLASS_ROWS` on."""
    told = {kind: found["value"] for kind, found in kinds.items() if found["n"] >= MIN_CLASS_ROWS}
    return [kind for kind, value in told.items() if value is not None and value < 0.5]


def sanity_table(name: str, result: Mapping[str, Any]) -> str:
    """Markdown of how often the real answer beat each kind of broken one, and in so many words where it did not."""
    rows = [[KINDS[kind], str(found["n"]), estimate_text(found)] for kind, found in result["kinds"].items()]
    fooled = [KINDS[kind] for kind in preferred(result["kinds"])]
    warning = f"**This model prefers {', '.join(fooled)} to the answer.** " if fooled else ""
    return (
        f"### {name}: {result['n']} answers against broken ones\n\n{warning}{result['rule']} 95% intervals resample users.\n\n"
        + markdown_table(["the answer against", "pairs", "share"], rows)
    )


def _incomplete(result: Mapping[str, Any]) -> str:
    missing = result.get("missing")
    return f" Without {', '.join(missing)}, which the published total has." if missing else ""


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
        partial = results["benchmarks"].get(column.partition(".")[0], {}).get("missing")
        own.append(estimate_text(value, 1, 100.0) + (" (in part)" if partial else "") if value else "–")
    rows = [own, *([name, *(f"{v:.1f}" for v in values)] for name, values in PUBLISHED.items())]
    parts = [
        f"### Benchmarks (%)\n\nAll rows but the first as published ([arXiv 2602.08829]({PAPER})).\n",
        markdown_table(["model", *COLUMNS.values()], rows),
    ]
    for name, result in benchmarks.items():
        subsets = [[key, str(s["n"]), estimate_text(s, 1, 100.0)] for key, s in result["subsets"].items()]
        parts.append(
            f"\n### {name}: {result['n']} items, {estimate_text(result['score'], 1, 100.0)}\n\n{result['rule']}{_incomplete(result)}\n\n"
            + markdown_table(["subset", "items", "score (%)"], subsets)
            + (f"\n\n{markdown_table(['measure', 'value'], behaved)}" if (behaved := judge_rows(result)) else "")
        )
    return "\n".join(parts)


def comparison_table(comparison: Mapping[str, Any]) -> str:
    """Markdown of a paired comparison: every model's values, then the difference of every two."""
    models = comparison["models"]
    values, gaps = [], []
    for measure, found in comparison["differences"].items():
        of_model = {
            letter: d[side] for pair, d in found.items() for letter, side in zip(pair.split("-"), "ab", strict=True)
        }
        values.append([measure, *(number_text(of_model.get(letter)) for letter in models)])
        for pair, d in found.items():
            difference = estimate_text(d | {"value": d["difference"]})
            gaps.append([measure, pair.upper().replace("-", " − "), difference, number_text(d["p_value"])])
    legend = ", ".join(f"{letter.upper()} is {name}" for letter, name in models.items())
    tested = "" if len(models) == 2 else " p is of one comparison, not corrected for their number."
    return (
        f"### {' against '.join(f'{name} ({letter.upper()})' for letter, name in models.items())}\n\n"
        f"{legend}. Paired bootstrap on the same items.{tested}\n\n"
        + markdown_table(["measure", *(letter.upper() for letter in models)], values)
        + "\n\n"
        + markdown_table(["measure", "models", "difference [95% interval]", "p"], gaps)
    )


def markdown(results: Mapping[str, Any]) -> str:
    """All results as one Markdown text: of one model, or of a comparison of several."""
    if "comparison" in results:
        return f"## Comparison\n\n{comparison_table(results['comparison'])}\n"
    parts = [f"## Evaluation of {results['model']['name']}"]
    parts += [dataset_table(name, result) for name, result in results.get("datasets", {}).items()]
    if tables := benchmark_tables(results):
        parts.append(tables)
    parts += [pairs_table(name, result) for name, result in results.get("pairs", {}).items()]
    if "asked" in results:
        parts.append(asked_text(results["asked"]))
    parts += [sanity_table(name, result) for name, result in results.get("sanity", {}).items()]
    return "\n\n".join(parts) + "\n"
