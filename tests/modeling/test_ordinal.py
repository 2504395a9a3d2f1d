"""Losses, probabilities and scores against numbers worked by hand and against coral-pytorch."""

import math

import pytest
import torch
from coral_pytorch.dataset import levels_from_labelbatch
from coral_pytorch.losses import coral_loss, corn_loss
from hypothesis import given, settings
from hypothesis import strategies as st

from wildreward.modeling_wildreward import (
    OrdinalHead,
    expected_level,
    level_probs,
    ordinal_loss,
    preference_probability,
)
from wildreward.modeling_wildreward.calibration import fit_temperatures


def softplus(x):
    return math.log1p(math.exp(x))


def test_loss_of_one_sample_by_hand():
    # K = 4, y = 2: targets 1, 0, 0; -log sigmoid(z) = softplus(-z), -log(1 - sigmoid(z)) = softplus(z)
    logits, label = torch.tensor([[2.0, -1.0, 0.5]]), torch.tensor([2])
    expected = (softplus(-2.0) + softplus(-1.0) + softplus(0.5)) / 3
    assert ordinal_loss(logits, label, "coral").item() == pytest.approx(expected, rel=1e-6)
    assert ordinal_loss(logits, label, "independent").item() == pytest.approx(expected, rel=1e-6)
    # corn: y = 2 reached thresholds 1 and 2 only
    assert ordinal_loss(logits, label, "corn").item() == pytest.approx((softplus(-2.0) + softplus(-1.0)) / 3, rel=1e-6)


def test_loss_weights_by_hand():
    logits, labels = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]), torch.tensor([1, 4])
    weighted = ordinal_loss(
        logits, labels, "coral", threshold_weights=[1.0, 2.0, 3.0], sample_weights=torch.tensor([1.0, 0.5])
    )
    assert weighted.item() == pytest.approx(math.log(2) * 2 * (1 + 0.5) / 2, rel=1e-6)
    smooth = ordinal_loss(torch.tensor([[1.0]]), torch.tensor([2]), "coral", label_smoothing=0.2)
    assert smooth.item() == pytest.approx(0.9 * softplus(-1.0) + 0.1 * softplus(1.0), rel=1e-6)


def test_equal_to_coral_pytorch():
    torch.manual_seed(0)
    logits, labels = torch.randn(64, 3), torch.randint(1, 5, (64,))
    theirs = coral_loss(logits, levels_from_labelbatch(labels - 1, num_classes=4))  # sums over the thresholds
    assert torch.allclose(ordinal_loss(logits, labels, "coral") * 3, theirs, atol=1e-6)
    pairs = sum(int((labels >= k).sum()) for k in (1, 2, 3))  # theirs divides by the (sample, threshold) pairs
    assert torch.allclose(
        ordinal_loss(logits, labels, "corn", reduction="sum") * 3, corn_loss(logits, labels - 1, 4) * pairs, atol=1e-4
    )


@pytest.mark.parametrize("head", ["coral", "corn", "independent"])
def test_batches_add_up(head):
    torch.manual_seed(1)
    logits, labels = torch.randn(10, 3), torch.randint(1, 5, (10,))
    parts = sum(ordinal_loss(logits[i : i + 3], labels[i : i + 3], head, reduction="sum") for i in range(0, 10, 3))
    assert torch.allclose(ordinal_loss(logits, labels, head), parts / 10, atol=1e-6)


@pytest.mark.parametrize("bad", [0, 5, -100])
def test_labels_outside_are_named(bad):
    with pytest.raises(ValueError, match=rf"labels \[{bad}\] are outside 1\.\.4"):
        ordinal_loss(torch.zeros(2, 3), torch.tensor([1, bad]), "coral")


def test_loss_and_probabilities_are_float32_for_bfloat16_logits():
    logits = torch.randn(3, 3).bfloat16()
    assert ordinal_loss(logits, torch.tensor([1, 2, 3]), "coral").dtype == torch.float32
    assert level_probs(logits, "corn").dtype == torch.float32


def test_level_probs_by_hand():
    z = torch.logit(torch.tensor([[0.9, 0.6, 0.2]]))
    assert torch.allclose(level_probs(z, "coral"), torch.tensor([[0.1, 0.3, 0.4, 0.2]]), atol=1e-6)
    assert expected_level(z, "coral").item() == pytest.approx(1 + 0.9 + 0.6 + 0.2, rel=1e-6)
    # corn: 0.9, 0.9 * 0.6, 0.9 * 0.6 * 0.2
    assert torch.allclose(level_probs(z, "corn"), torch.tensor([[0.1, 0.36, 0.432, 0.108]]), atol=1e-6)
    assert expected_level(z, "corn").item() == pytest.approx(1 + 0.9 + 0.54 + 0.108, rel=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["coral", "corn"]), st.integers(2, 7))
def test_thresholds_never_cross(seed, head, levels):
    torch.manual_seed(seed)
    module = OrdinalHead(8, levels, head)
    with torch.no_grad():
        module.weight.normal_(std=3)
        module.bias.normal_(std=3)
    logits = module(torch.randn(32, 8) * 3)
    temperatures = (torch.rand(levels - 1) * 5 + 0.05).tolist()
    for temperature in (None, temperatures):
        probs = level_probs(logits, head, temperature)
        assert (probs >= 0).all()
        assert torch.allclose(probs.sum(1), torch.ones(32), atol=1e-5)
        score = expected_level(logits, head, temperature)
        assert torch.allclose(score, (probs * torch.arange(1, levels + 1)).sum(1), atol=1e-4)


def test_head_prior_gives_the_frequencies_back():
    for head in ("coral", "corn"):
        module = OrdinalHead(4, 4, head)
        module.set_prior([10, 45, 35, 10])
        probs = level_probs(module(torch.zeros(1, 4)), head)
        assert torch.allclose(probs, torch.tensor([[0.10, 0.45, 0.35, 0.10]]), atol=1e-5)


def test_preference_probability_by_hand():
    a, b = torch.tensor([0.0, 0.5, 0.5, 0.0]), torch.tensor([0.5, 0.5, 0.0, 0.0])
    # A = 2: beats 1 (0.5), ties 2 (0.25); A = 3: beats both
    assert preference_probability(a, b).item() == pytest.approx(0.5 * (0.5 + 0.25) + 0.5 * 1.0)
    assert preference_probability(a, a).item() == pytest.approx(0.5)


def test_temperatures_recover_overconfidence():
    torch.manual_seed(0)
    signal = torch.randn(20_000, 1)
    logits = signal + torch.tensor([[1.5, 0.0, -1.5]])
    labels = 1 + (torch.rand(20_000, 1) < logits.sigmoid()).long().sum(1)  # one uniform draw: ordinal by construction
    fitted = fit_temperatures(logits * 3, labels, "coral")
    assert fitted == pytest.approx([3.0, 3.0, 3.0], rel=0.1)
    after = expected_level(logits * 3, "coral", fitted)
    order = signal[:, 0].argsort()
    assert (after[order].diff() >= -1e-6).all()


def test_temperatures_refuse_bad_input():
    with pytest.raises(ValueError, match="no held-out samples"):
        fit_temperatures(torch.zeros(0, 3), torch.zeros(0), "coral")
    with pytest.raises(ValueError, match="NaN or infinite"):
        fit_temperatures(torch.full((2, 3), float("nan")), torch.tensor([1, 2]), "coral")
