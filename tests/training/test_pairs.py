import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wildreward.training.pairs import combine_rewards, select_pairs

NAN = float("nan")


def pick(rewards, **options):
    chosen, rejected, keep = select_pairs(torch.tensor(rewards), **options)
    return chosen.tolist(), rejected.tolist(), keep.tolist()


def test_best_and_worst_of_each_prompt():
    assert pick([[1.0, 3.0, 2.0], [5.0, 4.0, 6.0]]) == ([1, 2], [0, 1], [True, True])


def test_ties_and_small_margins_are_masked():
    rewards = [[2.0, 2.0, 2.0], [2.0, 2.1, 2.0], [1.0, 3.0, 2.0]]
    assert pick(rewards)[2] == [False, True, True]
    assert pick(rewards, min_margin=0.5)[2] == [False, False, True]


def test_margin_equal_to_the_minimum_is_kept():
    assert pick([[1.0, 1.5]], min_margin=0.5)[2] == [True]


def test_unscorable_completions_are_never_selected():
    chosen, rejected, keep = pick([[NAN, 1.0, 2.0], [NAN, 1.0, NAN], [NAN, NAN, NAN]])
    assert (chosen[0], rejected[0]) == (2, 1)
    assert keep == [True, False, False]


def test_truncated_completions_may_be_rejected_but_not_chosen():
    choosable = torch.tensor([[True, False, True], [False, False, False]])
    chosen, rejected, keep = pick([[1.0, 3.0, 2.0], [1.0, 2.0, 3.0]], choosable=choosable)
    assert (chosen[0], rejected[0]) == (2, 0)
    assert keep == [True, False]
    assert pick([[2.0, 1.0]], choosable=torch.tensor([[True, False]])) == ([0], [1], [True])


def test_identical_texts_are_never_paired():
    """A noisy reward may give one text two values; the next worst text is taken, or the prompt masked."""
    text_ids = torch.tensor([[0, 0, 1], [0, 0, 0]])
    chosen, rejected, keep = pick([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0]], text_ids=text_ids)
    assert (chosen[0], rejected[0]) == (0, 2)
    assert keep == [True, False]


def test_wrong_shape_and_infinite_rewards_are_refused():
    with pytest.raises(ValueError, match=r"shape \(3,\); expected \(prompts, completions per prompt\)"):
        select_pairs(torch.zeros(3))
    with pytest.raises(ValueError, match=r"infinite rewards at prompts \[1\]"):
        select_pairs(torch.tensor([[0.0, 1.0], [0.0, float("inf")]]))


@given(
    st.integers(2, 6).flatmap(
        lambda n: st.lists(
            st.lists(st.sampled_from([NAN, 1.0, 1.5, 2.0, 4.0]), min_size=n, max_size=n), min_size=1, max_size=5
        )
    ),
    st.sampled_from([0.0, 0.5, 2.0]),
)
def test_a_kept_pair_has_the_extremes_of_its_own_prompt(rewards, min_margin):
    chosen, rejected, keep = pick(rewards, min_margin=min_margin)
    for row, best, worst, kept in zip(rewards, chosen, rejected, keep, strict=True):
        values = [r for r in row if r == r]
        margin = max(values) - min(values) if values else 0.0
        assert kept == (margin > 0 and margin >= min_margin)
        if kept:
            assert (row[best], row[worst]) == (max(values), min(values))


def test_rewards_of_several_functions_are_weighted_and_stay_comparable():
    rewards = torch.tensor(
        [
            [[1.0, 10.0], [2.0, 20.0]],
            [[1.0, NAN], [2.0, NAN]],  # the second function does not apply to this prompt
            [[1.0, 10.0], [2.0, NAN]],  # here it could not score one completion: that one cannot be compared
            [[NAN, NAN], [NAN, NAN]],
        ]
    )
    combined = combine_rewards(rewards, torch.tensor([1.0, 0.1]))
    expected = torch.tensor([[2.0, 4.0], [1.0, 2.0], [2.0, NAN], [NAN, NAN]])
    torch.testing.assert_close(combined, expected, equal_nan=True)
