"""Which rows share a forward pass: optimizer steps of a fixed number of rows, cut into micro-batches by tokens.

A step is a random sample of rows, so its gradient is not tied to one length. Inside a step the rows are sorted by
length and cut where padding plus the cost of one more pass is least (padded), or poured into equal bins (packed).
Every process plans the same steps from the same seed and takes its own micro-batches, the same number on each, so that
sharded training engines stay in lockstep and the sequence of steps does not depend on the number of processes.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

Ints = np.ndarray
MicroBatch = list[int]


@dataclass(frozen=True)
class TokenBudget:
    """How a step is cut.

    Attributes:
        tokens: most tokens in one forward pass on one device, padding included; a single longer row goes alone.
        packed: rows are laid end to end, without padding.
        pass_overhead: cost of one more forward and backward pass, in tokens.
    """

    tokens: int
    packed: bool = False
    pass_overhead: int = 128

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise ValueError(f"the token budget is {self.tokens}; expected at least 1")


def plan_step(lengths: Sequence[int] | Ints, budget: TokenBudget, world_size: int = 1) -> list[list[MicroBatch]]:
    """Cut one optimizer step into micro-batches for every process.

    Args:
        lengths: tokens of each row of the step.
        budget: see [`TokenBudget`].
        world_size: number of processes.

    Returns:
        For each process its micro-batches, lists of positions in `lengths`; every process has the same number. Where
        there are fewer rows than processes, some micro-batches are empty.
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    cut = _pack if budget.packed else _cut_sorted
    micro_batches = cut(sizes, budget, world_size)
    cost = [
        int(sizes[rows].sum() if budget.packed else len(rows) * sizes[rows].max(initial=0)) for rows in micro_batches
    ]
    order = sorted(range(len(micro_batches)), key=lambda i: -cost[i])
    ranks: list[list[MicroBatch]] = [[] for _ in range(world_size)]
    for turn, position in enumerate(order):  # dealt there and back, so that the processes' sums are close
        lap, seat = divmod(turn, world_size)
        ranks[seat if lap % 2 == 0 else world_size - 1 - seat].append(micro_batches[position])
    return ranks


def _cut_sorted(sizes: Ints, budget: TokenBudget, world_size: int) -> list[MicroBatch]:
    """Contiguous groups of the length-sorted rows with the least padded tokens plus overhead (dynamic programming)."""
    order = np.argsort(-sizes, kind="stable")
    ordered = sizes[order]
    count = len(ordered)
    best = np.zeros(count + 1)  # best[i]: cost of the rows from i on
    end_of = np.zeros(count + 1, dtype=np.int64)
    for start in range(count - 1, -1, -1):
        most = max(1, budget.tokens // max(int(ordered[start]), 1))
        stop = min(count, start + most)
        group = np.arange(1, stop - start + 1)
        costs = group * ordered[start] + budget.pass_overhead + best[start + 1 : stop + 1]
        choice = int(np.argmin(costs))
        best[start], end_of[start] = costs[choice], start + 1 + choice
    groups, start = [], 0
    while start < count:
        groups.append(order[start : end_of[start]].tolist())
        start = int(end_of[start])
    return _even_number(groups, sizes, world_size)


def _even_number(groups: list[MicroBatch], sizes: Ints, world_size: int) -> list[MicroBatch]:
    """Split the costliest groups until their number is a multiple of the processes; add empty ones if rows run out."""
    while len(groups) % world_size:
        splittable = [i for i, rows in enumerate(groups) if len(rows) > 1]
        if not splittable:
            return groups + [[] for _ in range(-len(groups) % world_size)]
        rows = groups.pop(max(splittable, key=lambda i: len(groups[i]) * int(sizes[groups[i][0]])))
        groups += [rows[: (len(rows) + 1) // 2], rows[(len(rows) + 1) // 2 :]]
    return groups


def _pack(sizes: Ints, budget: TokenBudget, world_size: int) -> list[MicroBatch]:
    """Bins of nearly equal token sums within the budget: longest row first, into the emptiest bin."""
    fit = max(1, math.ceil(int(sizes.sum()) / budget.tokens))
    bins = math.ceil(fit / world_size) * world_size
    order = np.argsort(-sizes, kind="stable")
    while True:
        groups: list[MicroBatch] = [[] for _ in range(bins)]
        load = np.zeros(bins, dtype=np.int64)
        for row in order:
            seat = int(np.argmin(load))
            if load[seat] and load[seat] + sizes[row] > budget.tokens:
                break
            groups[seat].append(int(row))
            load[seat] += sizes[row]
        else:
            return groups
        bins += world_size


class TokenBudgetSampler(Sampler[list[MicroBatch]]):
    """Batch sampler: each item is one optimizer step's micro-batches, as lists of dataset rows, for one process.

    Args:
        lengths: tokens of each dataset row.
        rows_per_step: rows in an optimizer step, over all processes.
        budget: see [`TokenBudget`].
        rank: this process.
        world_size: number of processes.
        seed: of the shuffling; together with the epoch it decides the order.
        shuffle: off for evaluation, which takes the rows by length.
    """

    def __init__(
        self,
        lengths: Sequence[int] | Ints,
        rows_per_step: int,
        budget: TokenBudget,
        *,
        rank: int = 0,
        world_size: int = 1,
        seed: int = 0,
        shuffle: bool = True,
    ) -> None:
        if rows_per_step < 1:
            raise ValueError(f"rows_per_step is {rows_per_step}; expected at least 1")
        self.lengths = np.asarray(lengths, dtype=np.int32)
        self.rows_per_step = rows_per_step
        self.budget = budget
        self.rank = rank
        self.world_size = world_size
        self.seed = seed
        self.shuffle = shuffle
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of this epoch; the same on every process."""
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(len(self.lengths) / self.rows_per_step)

    def __iter__(self) -> Iterator[list[MicroBatch]]:
        if self.shuffle:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.lengths))
        else:
            order = np.argsort(-self.lengths, kind="stable")
        for start in range(0, len(order), self.rows_per_step):
            rows = order[start : start + self.rows_per_step]
            planned = plan_step(self.lengths[rows], self.budget, self.world_size)[self.rank]
            yield [rows[positions].tolist() for positions in planned]

    def padding_share(self) -> float:
        """Share of the tokens computed in this epoch's order, on this process, that is padding."""
        useful = computed = 0
        for step in self:
            for rows in filter(None, step):
                sizes = self.lengths[rows]
                useful += int(sizes.sum())
                computed += int(sizes.sum() if self.budget.packed else len(rows) * sizes.max())
        return 1.0 - useful / max(computed, 1)


class StepDataset(Dataset):
    """Features by micro-batch: one read of the dataset each, with the weight and the position of every row added."""

    def __init__(self, rows: Dataset, weights: np.ndarray | None = None) -> None:
        self.rows = rows
        self.weights = weights

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: MicroBatch) -> list[dict]:
        columns = self.rows[rows] if rows else {}
        features = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        for row, feature in zip(rows, features, strict=True):
            feature["row"] = row
            feature["weight"] = 1.0 if self.weights is None else float(self.weights[row])
        return features


def seeded_generator(seed: int) -> torch.Generator:
    """A generator for a DataLoader, so that starting workers does not draw from the global one."""
    return torch.Generator().manual_seed(seed)
