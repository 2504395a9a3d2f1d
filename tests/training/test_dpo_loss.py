import math

import pytest
import torch

from wildreward.training.pairs import dpo_loss

CHOSEN, REJECTED = torch.tensor([2.0, -1.0]), torch.tensor([1.0, 3.0])
LENGTHS = torch.tensor([4.0, 2.0]), torch.tensor([2.0, 6.0])


@pytest.mark.parametrize(
    ("loss_type", "expected"),
    [
        ("sigmoid", [math.log(1 + math.exp(-0.1 * 1.0)), math.log(1 + math.exp(0.1 * 4.0))]),
        ("ipo", [(1.0 - 5.0) ** 2, (-4.0 - 5.0) ** 2]),
        # averaged over tokens: 2/4 - 1/2 = 0 and -1/2 - 3/6 = -1
        ("sigmoid_norm", [math.log(2.0), math.log(1 + math.exp(0.1 * 1.0))]),
    ],
)
def test_hand_worked_values(loss_type, expected):
    losses = dpo_loss(CHOSEN, REJECTED, 0.1, loss_type, *LENGTHS)
    torch.testing.assert_close(losses, torch.tensor(expected))


def test_gradient_pushes_chosen_up_and_rejected_down():
    chosen, rejected = CHOSEN.clone().requires_grad_(), REJECTED.clone().requires_grad_()
    dpo_loss(chosen, rejected, 0.1).sum().backward()
    slope = 0.1 * torch.sigmoid(-0.1 * (CHOSEN - REJECTED))
    torch.testing.assert_close(chosen.grad, -slope)
    torch.testing.assert_close(rejected.grad, slope)


def test_errors():
    with pytest.raises(ValueError, match="expected one of sigmoid, ipo, sigmoid_norm"):
        dpo_loss(CHOSEN, REJECTED, 0.1, "hinge")
    with pytest.raises(ValueError, match="needs the completion lengths"):
        dpo_loss(CHOSEN, REJECTED, 0.1, "sigmoid_norm")
