"""Steps and micro-batches: what is computed together, on which process."""

from itertools import combinations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from wildreward.training.reward_batching import TokenBudget, TokenBudgetSampler, plan_step

LENGTHS = st.lists(st.integers(1, 300), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@given(LENGTHS, st.integers(1, 400), st.integers(1, 4), st.booleans())
def test_a_plan_holds_every_row_once_within_the_budget_and_equally_many_passes_a_process(
    lengths, tokens, world_size, packed
):
    ranks = plan_step(lengths, TokenBudget(tokens, packed, 16), world_size)
    assert len(ranks) == world_size
    assert len({len(micro_batches) for micro_batches in ranks}) == 1
    flat = [rows for micro_batches in ranks for rows in micro_batches]
    assert sorted(row for rows in flat for row in rows) == list(range(len(lengths)))
    for rows in flat:
        sizes = [lengths[row] for row in rows]
        used = sum(sizes) if packed else len(sizes) * max(sizes, default=0)
        assert used <= tokens or len(rows) == 1


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=8), st.integers(1, 40))
def test_a_padded_step_is_cut_where_padding_and_overhead_are_least(lengths, overhead):
    def cost(groups):
        return sum(len(group) * max(group) + overhead for group in groups)

    ordered = sorted(lengths, reverse=True)
    cheapest = min(
        cost([ordered[a:b] for a, b in zip((0, *cuts), (*cuts, len(ordered)), strict=True)])
        for k in range(len(ordered))
        for cuts in combinations(range(1, len(ordered)), k)
    )
    (micro_batches,) = plan_step(lengths, TokenBudget(10_000, False, overhead))
    assert cost([[lengths[row] for row in rows] for rows in micro_batches]) == cheapest


def test_steps_hold_the_same_rows_for_any_number_of_processes():
    lengths = np.random.default_rng(0).integers(5, 200, 101)

    def steps(world_size):
        samplers = [
            TokenBudgetSampler(lengths, 16, TokenBudget(512), rank=rank, world_size=world_size, seed=3)
            for rank in range(world_size)
        ]
        return [sorted(row for part in parts for rows in part for row in rows) for parts in zip(*samplers, strict=True)]

    assert steps(1) == steps(2) == steps(3)
    assert sorted(row for step in steps(3) for row in step) == list(range(101))
    assert len(steps(1)) == 7


def test_epochs_differ_and_come_back():
    sampler = TokenBudgetSampler([10] * 50, 8, TokenBudget(100), seed=1)
    first = list(sampler)
    assert list(sampler) == first
    sampler.set_epoch(1)
    assert list(sampler) != first
    sampler.set_epoch(0)
    assert list(sampler) == first


def test_real_lengths_waste_under_five_percent_on_padding():
    lengths = np.clip(np.random.default_rng(0).lognormal(6.0, 0.8, 2000), 20, 4096).astype(int)
    assert TokenBudgetSampler(lengths, 64, TokenBudget(8192)).padding_share() < 0.05
    assert TokenBudgetSampler(lengths, 64, TokenBudget(8192, packed=True)).padding_share() == 0.0


def test_processes_get_nearly_the_same_work():
    lengths = np.clip(np.random.default_rng(0).lognormal(6.0, 0.8, 128), 20, 4096).astype(int)
    ranks = plan_step(lengths, TokenBudget(4096, packed=True), world_size=4)
    tokens = [sum(lengths[row] for rows in part for row in rows) for part in ranks]
    assert max(tokens) / min(tokens) < 1.1
