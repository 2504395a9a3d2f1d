"""The metrics as `evaluate.Metric` classes, built locally: no Hub, no cache file."""

from typing import Any

import datasets

from wildreward.common.errors import UserError
from wildreward.evaluation.metrics import ordinal_metrics, pairwise_metrics

try:
    import evaluate
except ImportError as error:
    raise UserError("metric classes need the evaluate package; pip install 'wildreward[metrics]'") from error

CITATION = """@article{cao2020coral, title={Rank consistent ordinal regression for neural networks},
author={Cao, Wenzhi and Mirjalili, Vahid and Raschka, Sebastian}, journal={Pattern Recognition Letters}, year={2020}}"""


class _LocalMetric(evaluate.Metric):
    """An `evaluate.Metric` that keeps its inputs in memory: no cache file, no lock, no Hub."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"keep_in_memory": True, **kwargs})


class OrdinalMetric(_LocalMetric):
    """Expected levels against labels: see `ordinal_metrics`."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Ordinal agreement and global separation of reward scores with levels.",
            citation=CITATION,
            inputs_description=ordinal_metrics.__doc__ or "",
            features=datasets.Features(
                {"predictions": datasets.Value("float64"), "references": datasets.Value("float64")}
            ),
        )

    def _compute(
        self, predictions: list[float], references: list[float], num_levels: int = 4, positive_from: int = 3
    ) -> dict[str, float]:
        return ordinal_metrics(predictions, references, num_levels, positive_from)


class PairwiseMetric(_LocalMetric):
    """Scores of better answers (`predictions`) against those of worse ones (`references`): see `pairwise_metrics`."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Pairwise accuracy, calibration and length bias of reward scores.",
            citation=CITATION,
            inputs_description=pairwise_metrics.__doc__ or "",
            features=datasets.Features(
                {"predictions": datasets.Value("float64"), "references": datasets.Value("float64")}
            ),
        )

    def _compute(self, predictions: list[float], references: list[float], **options: Any) -> dict[str, float]:
        return pairwise_metrics(predictions, references, **options)
