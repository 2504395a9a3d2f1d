"""Evaluation of reward models: metrics, benchmarks, calibration, figures, and their report."""

from wildreward.common.lazy import lazy_names

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "OrdinalMetric": ".metrics",
        "PairwiseMetric": ".metrics",
        "expected_calibration_error": ".calibration",
        "reliability_bins": ".calibration",
        "accuracy_coverage": ".calibration",
        "evaluate_model": ".results",
        "EvaluateConfig": ".settings",
        "rm_bench_accuracy": ".benchmarks",
        "load_benchmark": ".benchmarks",
        "score_benchmark": ".benchmarks",
        "best_of_n": ".best_of_n",
    },
)
