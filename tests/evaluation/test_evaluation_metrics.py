"""Metrics equal scikit-learn's and SciPy's on random inputs, and hand-worked values."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from wildreward.evaluation import calibration as C
from wildreward.evaluation import metrics as M
from wildreward.evaluation import pairs as P
from wildreward.evaluation import statistics as S

rows = st.lists(
    st.tuples(st.one_of(st.integers(1, 4).map(float), st.floats(1, 4, width=16)), st.integers(1, 4)),
    min_size=2,
    max_size=60,
)


def columns(table):
    return np.array([r[0] for r in table]), np.array([r[1] for r in table])


@given(rows)
@settings(max_examples=150, deadline=None)
def test_ordinal_metrics_equal_sklearn_and_scipy(table):
    scores, labels = columns(table)
    ours = M.ordinal_metrics(scores, labels)
    predicted = S.to_levels(scores, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = {
            "mae": sk.mean_absolute_error(labels, scores),
            "rmse": np.sqrt(sk.mean_squared_error(labels, scores)),
            "accuracy": sk.accuracy_score(labels, predicted),
            "within_one_accuracy": np.mean(abs(labels - predicted) <= 1),
            "qwk": sk.cohen_kappa_score(labels, predicted, labels=[1, 2, 3, 4], weights="quadratic"),
            "spearman": stats.spearmanr(scores, labels).statistic,
            "kendall_tau_b": stats.kendalltau(scores, labels).statistic,
            "roc_auc": sk.roc_auc_score(labels >= 3, scores) if len(set(labels >= 3)) == 2 else np.nan,
        }
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, abs=1e-9, nan_ok=True), name


@given(st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=1, max_size=80), st.integers(1, 12))
@settings(max_examples=150, deadline=None)
def test_calibration_error_equals_a_plain_loop_over_bins(table, n_bins):
    confidence = np.array([p / 8 for p, _ in table])
    correct = np.array([float(y) for _, y in table])
    edges = np.linspace(0, 1, n_bins + 1)
    expected = 0.0
    for k in range(n_bins):
        inside = (confidence > edges[k]) & (confidence <= edges[k + 1])
        if k == 0:
            inside |= confidence == 0
        if inside.any():  # empty bins count nothing
            expected += inside.mean() * abs(confidence[inside].mean() - correct[inside].mean())
    assert C.expected_calibration_error(confidence, correct, n_bins) == pytest.approx(expected, abs=1e-12)
    bins = C.reliability_bins(confidence, correct, n_bins, "mass")
    assert bins.count.sum() == len(table) and (bins.count > 0).all() and np.all(np.diff(bins.confidence) > 0)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=50))
@settings(max_examples=100, deadline=None)
def test_brier_and_likelihood_equal_sklearn(table):
    p, y = columns(table)
    assert C.brier_score(p, y) == pytest.approx(sk.brier_score_loss(y, p, pos_label=True), abs=1e-12)
    clipped = np.clip(p, 1e-15, 1 - 1e-15)
    theirs = sk.log_loss(y, np.c_[1 - clipped, clipped], labels=[0, 1])
    assert C.negative_log_likelihood(p, y) == pytest.approx(theirs, rel=1e-6, abs=1e-9)


def test_roc_auc_with_ties_and_one_class():
    assert S.roc_auc([1, 2, 2, 3], [0, 0, 1, 1]) == pytest.approx(0.875)  # 3 wins and half a tie of 4
    assert S.roc_auc([2, 2, 2], [0, 1, 1]) == 0.5
    assert np.isnan(S.roc_auc([1, 2], [1, 1]))


def test_constant_scores_are_undefined_not_zero():
    result = M.ordinal_metrics([2.0, 2.0, 2.0], [1, 2, 4])
    assert np.isnan(result["spearman"]) and np.isnan(result["kendall_tau_b"])
    assert result["roc_auc"] == 0.5 and result["qwk"] == 0.0


def test_kendall_on_many_values():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 400, 3000), rng.normal(size=3000).round(1)
    assert S.kendall_tau_b(x, y) == pytest.approx(stats.kendalltau(x, y).statistic, abs=1e-12)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_not_a_number_is_an_error_naming_the_place(bad):
    with pytest.raises(ValueError, match=r"scores holds (nan|inf) at position 1"):
        M.ordinal_metrics([1.0, bad], [1, 2])
    with pytest.raises(ValueError, match="worse holds"):
        M.pairwise_metrics([1.0, 2.0], [0.0, bad])
    with pytest.raises(ValueError, match="confidence holds"):
        C.expected_calibration_error([bad], [1])


def test_wrong_shapes_and_values_are_errors():
    with pytest.raises(ValueError, match="3 values and labels 2; expected as many"):
        M.ordinal_metrics([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match=r"holds 5.*; expected whole levels 1 to 4"):
        S.quadratic_weighted_kappa([5], [1], 4)
    with pytest.raises(ValueError, match="expected probabilities"):
        C.brier_score([1.5], [1])
    with pytest.raises(ValueError, match="non-empty"):
        M.ordinal_metrics([], [])


def test_pairwise_metrics_by_hand():
    result = M.pairwise_metrics([3.0, 1.0, 2.0, 4.0], [1.0, 2.0, 2.0, 3.0], probability=[0.9, 0.3, 0.5, 0.7])
    assert result["accuracy"] == pytest.approx(2.5 / 4)  # won, lost, tied, won
    assert result["brier"] == pytest.approx((0.01 + 0.49 + 0.25 + 0.09) / 4)
    assert result["nll"] == pytest.approx(-np.log([0.9, 0.3, 0.5, 0.7]).mean())
    # confidence .9 right; .7 wrong and .7 right share a bin at accuracy .5; .5 tied
    assert result["ece"] == pytest.approx((abs(0.9 - 1) + 2 * abs(0.7 - 0.5) + 0) / 4)


def test_bradley_terry_is_stable_for_large_gaps():
    p = P.bradley_terry([1000.0, -1000.0, 0.0], [-1000.0, 1000.0, 0.0])
    assert p.tolist() == [1.0, 0.0, 0.5]


def test_accuracy_coverage_by_hand():
    # gaps: +2 right, -1 wrong, 0 tie, +0.5 right
    curve = C.accuracy_coverage([3, 1, 2, 2.5], [1, 2, 2, 2], margins=[0, 0.5, 1, 2, 3])
    assert curve.margin.tolist() == [0, 0.5, 1, 2]
    assert curve.count.tolist() == [4, 3, 2, 1]
    assert curve.coverage.tolist() == [1, 0.75, 0.5, 0.25]
    assert curve.accuracy.tolist() == pytest.approx([2.5 / 4, 2 / 3, 0.5, 1.0])


def test_length_bias_by_hand():
    result = M.length_bias([3, 2, 1], [1, 1, 2], [10, 5, 7], [5, 10, 9])
    assert result["accuracy_better_longer"] == 1.0 and result["n_better_longer"] == 1
    assert result["accuracy_better_shorter"] == 0.5 and result["n_better_shorter"] == 2
    always_longer = M.length_bias([10, 1], [5, 2], [10, 1], [5, 2])
    assert always_longer["length_correlation"] == pytest.approx(1.0)


def test_metrics_are_evaluate_metrics_and_work_offline(monkeypatch):
    import evaluate

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    ordinal = M.OrdinalMetric()
    assert isinstance(ordinal, evaluate.Metric)
    ordinal.add_batch(predictions=[1.0, 2.0], references=[1, 2])
    ordinal.add_batch(predictions=[3.5], references=[4])
    assert ordinal.compute()["mae"] == pytest.approx(0.5 / 3)
    pairwise = M.PairwiseMetric().compute(predictions=[2.0, 1.0], references=[1.0, 1.0], probability=[0.8, 0.5])
    assert pairwise["accuracy"] == 0.75
