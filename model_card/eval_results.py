"""Evaluation results in the Hub's own form: `.eval_results/*.yaml`, read from results.json."""

from collections.abc import Iterator, Mapping
from typing import Any

from wildreward.model_card.facts import is_hub_id

DATASET_MEASURES = ("roc_auc", "qwk", "mae", "accuracy", "spearman")


def result_entries(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Entries for `.eval_results/wildreward.yaml`: benchmark scores in percent, measures on Hub datasets as they are.

    Args:
        results: what results.json holds.

    Returns:
        Dicts ready for YAML, in the Hub's form; nothing for results that have no value or no place on the Hub, nor for
        those of a sample (`--limit`) or of files from elsewhere: the Hub would show them as scores on its dataset.
    """
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    from wildreward.evaluation.report import class_counts

    if (results.get("settings") or {}).get("limit") is not None:
        return []
    entries = []
    for result in (results.get("benchmarks") or {}).values():
        read = _read_from_the_hub(result)
        for source, estimate in _by_source(result):
            if source in read and estimate["value"] is not None:
                notes = _notes(estimate, f"{estimate.get('n', result['n'])} items", 100)
                entries.append(EvalResultEntry(source, "default", round(100 * estimate["value"], 2), notes=notes))
    for name, result in (results.get("pairs") or {}).items():
        for repo in _read_from_the_hub(result):
            if result["accuracy"]["value"] is not None:
                notes = _notes(result["accuracy"], f"{result['n']} pairs, {name}", 100)
                entries.append(
                    EvalResultEntry(repo, "default", round(100 * result["accuracy"]["value"], 2), notes=notes)
                )
    for name, result in (results.get("datasets") or {}).items():
        if not is_hub_id(name) or name not in _read_from_the_hub(result):
            continue
        for measure in DATASET_MEASURES:
            estimate = result.get(measure)
            if isinstance(estimate, Mapping) and estimate.get("value") is not None:
                classes = class_counts(result) if measure == "roc_auc" else ""
                notes = _notes(estimate, f"split {result['split']}, {result['n']} instances{classes}")
                entries.append(EvalResultEntry(name, measure, round(estimate["value"], 4), notes=notes))
    return eval_result_entries_to_yaml(entries)


def _read_from_the_hub(result: Mapping[str, Any]) -> set[str]:
    """Ids of the datasets that were read from the Hub itself, as far as was recorded."""
    return {origin["repo"] for origin in result.get("read_from") or [] if "repo" in origin}


def _by_source(result: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The dataset on the Hub behind a benchmark with its score; of a benchmark made of several, each with its own."""
    sources = [source for source in result.get("sources") or [] if is_hub_id(source)]
    if len(sources) == 1:
        yield sources[0], result["score"]
        return
    for name, estimate in result.get("subsets", {}).items():
        found = [source for source in sources if name.replace("_", "-").lower() in source.lower()]
        if len(found) == 1:
            yield found[0], estimate


def _notes(estimate: Mapping[str, float | None], sample: str, factor: float = 1.0) -> str:
    low, high = estimate.get("low"), estimate.get("high")
    if low is None or high is None:
        return sample
    return f"{sample}, 95% interval [{low * factor:.4g}, {high * factor:.4g}]"
