"""Reward model benchmarks with their published rules; see `run.BENCHMARKS` for the names."""

from wildreward.common.lazy import lazy_names

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Benchmark": ".items",
        "Item": ".items",
        "load_benchmark": ".run",
        "rm_bench_accuracy": ".rm_bench",
        "score_benchmark": ".run",
    },
)
