"""Evaluation results in the Hub's own form: `.eval_results/*.yaml`, read from results.json."""

from collections.abc import Mapping
from typing import Any

from wildreward.model_card.facts import is_hub_id

# Benchmark → (dataset on the Hub, task in it).
BENCHMARKS = {
    "reward_bench": ("allenai/reward-bench", "default"),
    "reward_bench_2": ("allenai/reward-bench-2", "default"),
    "rm_bench": ("THU-KEG/RM-Bench", "default"),
    "ppe_human": ("lmarena-ai/PPE-Human-Preference-V1", "default"),
    "judge_bench": ("ScalerLab/JudgeBench", "default"),
}
DATASET_MEASURES = ("roc_auc", "qwk", "mae", "accuracy", "spearman")


def result_entries(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Entries for `.eval_results/wildreward.yaml`: benchmark scores in percent, measures on Hub datasets as they are.

    Args:
        results: what results.json holds.

    Returns:
        Dicts ready for YAML, in the Hub's form; nothing for results that have no value or no place on the Hub.
    """
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    entries = []
    for name, result in (results.get("benchmarks") or {}).items():
        if name not in BENCHMARKS or result["score"]["value"] is None:
            continue
        dataset, task = BENCHMARKS[name]
        value = round(100 * result["score"]["value"], 2)
        entries.append(
            EvalResultEntry(dataset, task, value, notes=_notes(result["score"], f"{result['n']} items", 100))
        )
    for name, result in (results.get("datasets") or {}).items():
        if not is_hub_id(name):
            continue
        for measure in DATASET_MEASURES:
            estimate = result.get(measure)
            if isinstance(estimate, Mapping) and estimate.get("value") is not None:
                notes = _notes(estimate, f"split {result['split']}, {result['n']} instances")
                entries.append(EvalResultEntry(name, measure, round(estimate["value"], 4), notes=notes))
    return eval_result_entries_to_yaml(entries)


def _notes(estimate: Mapping[str, float | None], sample: str, factor: float = 1.0) -> str:
    low, high = estimate.get("low"), estimate.get("high")
    if low is None or high is None:
        return sample
    return f"{sample}, 95% interval [{low * factor:.4g}, {high * factor:.4g}]"
