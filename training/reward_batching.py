"""Which rows share a forward pass, how they become tensors, and how much each counts.

A step is a random sample of rows with a level, and of preference pairs where there are some, so its gradient is not tied to
one length. What a step is cut into are *units*: a row, or the two rows of a pair, which always share a pass. They are sorted
by length and cut where padding plus the cost of one more pass is least (padded), or poured into equal bins (packed).
Every process plans the same steps from the same seed and takes its own micro-batches, the same number on each, so that
sharded training engines stay in lockstep and the sequence of steps does not depend on the number of processes.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from datasets import Dataset
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Sampler

from wildreward.common.errors import UserError

Ints = np.ndarray
Feature = dict[str, Any]
MicroBatch = list[int]  # units
LevelWeighting = Literal["none", "sqrt", "balanced"]
ThresholdWeighting = Literal["none", "importance"]
EXPONENT = {"none": 0.0, "sqrt": 0.5, "balanced": 1.0}
NO_LEVEL = -100  # label of a pair's rows, which transformers does not count


# ---- which rows


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

    def cost(self, sizes: Ints) -> int:
        """Tokens computed in one pass over units of these sizes, (U, 1) or (U, 2), 0 for the second row that a unit has not."""
        return int(sizes.sum() if self.packed else np.count_nonzero(sizes) * sizes.max(initial=0))


def plan_step(lengths: Sequence[int] | Ints, budget: TokenBudget, world_size: int = 1) -> list[list[MicroBatch]]:
    """Cut one optimizer step into micro-batches for every process.

    >>> plan_step([9, 2, 8, 3], TokenBudget(tokens=20, pass_overhead=4), world_size=2)
    [[[0, 2]], [[3, 1]]]

    Args:
        lengths: tokens of each unit of the step: (U,) of rows, or (U, 2) of pairs, and of rows with a 0 beside.
        budget: see [`TokenBudget`].
        world_size: number of processes.

    Returns:
        For each process its micro-batches, lists of positions in `lengths`; every process has the same number. Where
        there are fewer units than processes, some micro-batches are empty.
    """
    sizes = np.asarray(lengths, dtype=np.int64).reshape(len(lengths), -1)
    micro_batches = (_pack if budget.packed else _cut_sorted)(sizes, budget, world_size)
    micro_batches.sort(key=lambda rows: -budget.cost(sizes[rows]))
    ranks: list[list[MicroBatch]] = [[] for _ in range(world_size)]
    for turn, rows in enumerate(micro_batches):  # in snake order, so that the processes' sums are close
        lap, seat = divmod(turn, world_size)
        ranks[seat if lap % 2 == 0 else world_size - 1 - seat].append(rows)
    return ranks


def _cut_sorted(sizes: Ints, budget: TokenBudget, world_size: int) -> list[MicroBatch]:
    """Contiguous groups of the length-sorted units with the least padded tokens plus overhead (dynamic programming)."""
    longest = sizes.max(axis=1)
    order = np.argsort(-longest, kind="stable")
    ordered = np.maximum(longest[order], 1)
    count = len(ordered)
    before = np.append(0, np.count_nonzero(sizes[order], axis=1).cumsum())  # rows in the units before each
    best = np.zeros(count + 1)  # best[i]: cost of the units from i on
    end_of = np.zeros(count + 1, dtype=np.int64)
    for start in range(count - 1, -1, -1):
        most = before[start] + budget.tokens // ordered[start]
        stop = max(start + 1, int(np.searchsorted(before, most, side="right")) - 1)
        rows = before[start + 1 : stop + 1] - before[start]
        costs = rows * ordered[start] + budget.pass_overhead + best[start + 1 : stop + 1]
        choice = int(np.argmin(costs))
        best[start], end_of[start] = costs[choice], start + 1 + choice
    groups, start = [], 0
    while start < count:
        groups.append(order[start : end_of[start]].tolist())
        start = int(end_of[start])
    return _even_number(groups, sizes, budget, world_size)


def _even_number(groups: list[MicroBatch], sizes: Ints, budget: TokenBudget, world_size: int) -> list[MicroBatch]:
    """Split the costliest groups until their number is a multiple of the processes; add empty ones if units run out."""
    while len(groups) % world_size:
        splittable = [i for i, units in enumerate(groups) if len(units) > 1]
        if not splittable:
            return groups + [[] for _ in range(-len(groups) % world_size)]
        units = groups.pop(max(splittable, key=lambda i: budget.cost(sizes[groups[i]])))
        groups += [units[: (len(units) + 1) // 2], units[(len(units) + 1) // 2 :]]
    return groups


def _pack(sizes: Ints, budget: TokenBudget, world_size: int) -> list[MicroBatch]:
    """Bins of nearly equal token sums within the budget: longest unit first, into the emptiest bin."""
    tokens = sizes.sum(axis=1)
    fit = max(1, math.ceil(int(tokens.sum()) / budget.tokens))
    bins = math.ceil(fit / world_size) * world_size
    order = np.argsort(-tokens, kind="stable")
    while True:
        groups: list[MicroBatch] = [[] for _ in range(bins)]
        load = np.zeros(bins, dtype=np.int64)
        for unit in order:
            seat = int(np.argmin(load))
            if load[seat] and load[seat] + tokens[unit] > budget.tokens:
                break
            groups[seat].append(int(unit))
            load[seat] += tokens[unit]
        else:
            return groups
        bins += world_size


def share_of_step(count: int, step: int, steps: int) -> slice:
    """Which of `count` pairs in their order a step takes: all are taken once in `steps` steps, equally many in each.

    >>> [share_of_step(5, step, 3) for step in range(3)]
    [slice(0, 1, None), slice(1, 3, None), slice(3, 5, None)]
    """
    return slice(step * count // steps, (step + 1) * count // steps)


def pair_order(count: int, seed: int, epoch: int = 0) -> Ints:
    """The order of the pairs in an epoch."""
    return np.random.default_rng([seed, epoch, 1]).permutation(count)


class TokenBudgetSampler(Sampler[list[MicroBatch]]):
    """Batch sampler: each item is one optimizer step's micro-batches, as lists of units, for one process.

    >>> lengths = [9, 2, 8, 3, 7, 1]  # of rows 0 to 5
    >>> list(TokenBudgetSampler(lengths, rows_per_step=4, budget=TokenBudget(20, pass_overhead=8), shuffle=False))
    [[[0, 2], [4, 3]], [[1, 5]]]

    The first step has the rows 0, 2, 4 and 3, in two passes of 2 x 9 and 2 x 7 tokens; the last step is short. Pairs come in
    equal shares to the steps and are numbered on behind the R rows; without any rows, `rows_per_step` counts pairs.

    Args:
        lengths: (R,) tokens of each dataset row.
        rows_per_step: rows in an optimizer step, over all processes.
        budget: see [`TokenBudget`].
        pair_lengths: (P, 2) tokens of both rows of each pair.
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
        pair_lengths: Ints | None = None,
        rank: int = 0,
        world_size: int = 1,
        seed: int = 0,
        shuffle: bool = True,
    ) -> None:
        rows = np.asarray(lengths, dtype=np.int32)
        pairs = np.zeros((0, 2), dtype=np.int32) if pair_lengths is None else pair_lengths
        self.rows, self.pairs = len(rows), len(pairs)
        self.sizes = np.concatenate([np.stack([rows, np.zeros_like(rows)], axis=1), pairs])  # (R + P, 2)
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
        return math.ceil((self.rows or self.pairs) / self.rows_per_step)

    def __iter__(self) -> Iterator[list[MicroBatch]]:
        if self.shuffle:
            rows = np.random.default_rng([self.seed, self.epoch]).permutation(self.rows)
            pairs = pair_order(self.pairs, self.seed, self.epoch)
        else:
            longest = self.sizes.max(axis=1)
            rows, pairs = (np.argsort(-part, kind="stable") for part in np.split(longest, [self.rows]))
        for step in range(len(self)):
            of_rows = rows[step * self.rows_per_step : (step + 1) * self.rows_per_step]
            units = np.append(of_rows, self.rows + pairs[share_of_step(self.pairs, step, len(self))])
            planned = plan_step(self.sizes[units], self.budget, self.world_size)[self.rank]
            yield [units[positions].tolist() for positions in planned]

    def padding_share(self) -> float:
        """Share of the tokens computed in this epoch's order, on this process, that is padding."""
        sizes = [self.sizes[units] for step in self for units in step]
        return 1.0 - sum(int(s.sum()) for s in sizes) / max(sum(self.budget.cost(s) for s in sizes), 1)


class StepDataset(torch.utils.data.Dataset):
    """Features by micro-batch of units: one read of each dataset, with the weight and the position of every row added.

    Args:
        rows: R features of rows, see `reward_data`.
        weights: (R,) of the rows.
        pairs: features of pairs, see `reward_pairs`; their units are numbered from R.
    """

    def __init__(self, rows: Dataset, weights: np.ndarray | None = None, pairs: Dataset | None = None) -> None:
        self.rows = rows.with_format(None)
        self.weights = weights
        self.pairs = None if pairs is None else pairs.with_format(None)

    def __len__(self) -> int:
        return len(self.rows) + (0 if self.pairs is None else len(self.pairs))

    def __getitem__(self, units: MicroBatch) -> list[Feature]:
        rows = [unit for unit in units if unit < len(self.rows)]
        features = rows_of(self.rows[rows]) if rows else []
        for row, feature in zip(rows, features, strict=True):
            feature["row"] = row
            feature["weight"] = 1.0 if self.weights is None else float(self.weights[row])
        if self.pairs is not None and (pairs := [unit - len(self.rows) for unit in units if unit >= len(self.rows)]):
            features += [side for pair in rows_of(self.pairs[pairs]) for side in sides_of(pair)]
        return features


def sides_of(pair: Feature) -> list[Feature]:
    """The two rows of a pair, chosen and rejected; that they are two is told by their margin. `shared` are the first tokens of
    the rejected one that it has in common with the chosen one before it and does not repeat."""
    common = {"label": NO_LEVEL, "weight": 0.0, "margin": pair["margin"], "id": pair["id"]}
    shared = {"shared": pair.get("shared", 0)}
    return [{"input_ids": pair["chosen_ids"]} | common, {"input_ids": pair["rejected_ids"]} | common | shared]


def rows_of(columns: dict[str, list]) -> list[dict[str, Any]]:
    """A batch of columns as rows."""
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


# ---- tensors


@dataclass
class RewardCollator:
    """Tensors of one step, from its micro-batches of features: `input_ids`, `label`, and optionally `weight` and `id`.

    >>> short, long = {"input_ids": [5], "label": 1, "id": "a"}, {"input_ids": [6, 7, 8], "label": 4, "id": "b"}
    >>> step = RewardCollator(pad_token_id=0)([[long, short]])
    >>> step["labels"]  # of all rows of the step, where the trainer counts them
    tensor([4, 1])
    >>> batch = step["micro_batches"][0]  # for one forward pass; also `labels`, `sample_weights`, `rows`, `ids`
    >>> batch["input_ids"].tolist(), batch["attention_mask"].tolist()
    ([[6, 7, 8], [5, 0, 0]], [[1, 1, 1], [1, 0, 0]])
    >>> packed = RewardCollator(pad_token_id=0, packed=True)([[long, short]])["micro_batches"][0]
    >>> packed["input_ids"].tolist(), packed["position_ids"].tolist(), packed["cu_seq_lens_q"].tolist()
    ([[6, 7, 8, 5]], [[0, 1, 2, 0]], [0, 3, 4])

    Of a pair's two rows, which follow each other, `chosen` is the place of the first and `margins` what they must differ by.
    They have no level, so in a micro-batch they get the lowest with weight 0. An empty micro-batch (a process without rows in a last, short step) becomes a dummy row of weight 0 that counts as none.

    Args:
        pad_token_id: what rows are filled with on the right.
        packed: lay rows end to end: `input_ids` (1, T), `position_ids` restarting at 0, `cu_seq_lens_q` (N + 1,).
    """

    pad_token_id: int
    packed: bool = False

    def __call__(self, step: Sequence[Sequence[Feature]]) -> dict[str, Any]:
        """Collate one step: a list of micro-batches, each a list of features."""
        micro_batches = [self.micro_batch(features) for features in step]
        labels = [feature["label"] for features in step for feature in features]
        return {"micro_batches": micro_batches, "labels": torch.tensor(labels, dtype=torch.long)}

    def micro_batch(self, features: Sequence[Feature]) -> dict[str, Any]:
        """Tensors of one forward pass."""
        if not features:
            features = [{"input_ids": [self.pad_token_id], "label": 1, "weight": 0.0}]
        shared = [feature.get("shared", 0) for feature in features]
        rows = [
            torch.tensor(feature["input_ids"][before:], dtype=torch.long)
            for feature, before in zip(features, shared, strict=True)
        ]
        lengths = torch.tensor([len(row) for row in rows])
        if self.packed:
            offsets = torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).to(torch.int32)
            positions = [torch.arange(n, n + len(row)) for row, n in zip(rows, shared, strict=True)]
            batch = {
                "input_ids": torch.cat(rows)[None],
                "position_ids": torch.cat(positions)[None],
                "cu_seq_lens_q": offsets,
            }
            if any(shared):
                batch["attention_mask"] = _seen(offsets.tolist(), shared)
        else:
            input_ids = pad_sequence(rows, batch_first=True, padding_value=self.pad_token_id)
            attention_mask = (torch.arange(input_ids.shape[1]) < lengths[:, None]).long()
            batch = {"input_ids": input_ids, "attention_mask": attention_mask}
        chosen = [place for place, feature in enumerate(features) if "margin" in feature][::2]
        return batch | {
            "labels": torch.tensor([max(feature["label"], 1) for feature in features]),
            "chosen": torch.tensor(chosen, dtype=torch.long),
            "margins": torch.tensor([features[place]["margin"] for place in chosen], dtype=torch.float32),
            "sample_weights": torch.tensor([feature.get("weight", 1.0) for feature in features]),
            "rows": torch.tensor([feature.get("row", -1) for feature in features]),
            "ids": [str(feature.get("id", "?")) for feature in features],
        }


def _seen(offsets: list[int], shared: list[int]) -> torch.Tensor:
    """(1, 1, T, T) bool: which tokens each token of packed rows sees, the row before it as far as they share it."""
    owner = torch.repeat_interleave(torch.arange(len(shared)), torch.tensor(offsets).diff())
    seen = (owner[:, None] == owner).tril_()
    for row, tokens in enumerate(shared):
        if tokens:
            seen[offsets[row] : offsets[row + 1], offsets[row - 1] : offsets[row - 1] + tokens] = True
    return seen[None, None]


# ---- weights, for levels that are far from equally frequent


def sample_weights(
    labels: Sequence[int] | np.ndarray,
    confidences: Sequence[float] | np.ndarray,
    num_levels: int,
    level_weighting: LevelWeighting = "none",
    use_confidence: bool = False,
) -> np.ndarray:
    """Weight of each row, with a mean of one over all rows, so that the learning rate keeps its meaning.

    Args:
        labels: (N,) levels 1..K.
        confidences: (N,) trust in each label, non-negative.
        num_levels: K.
        level_weighting: `"balanced"` weighs a level by its inverse frequency, `"sqrt"` by the root of that.
        use_confidence: multiply with the confidences.

    Returns:
        (N,) float32.
    """
    levels = np.asarray(labels, dtype=np.int64)
    counts = np.maximum(np.bincount(levels, minlength=num_levels + 1), 1)
    weights = (1.0 / counts[levels]) ** EXPONENT[level_weighting]
    if use_confidence:
        weights = weights * np.asarray(confidences, dtype=np.float64)
    total = weights.sum()
    if total <= 0:
        raise UserError("every row has weight 0; check label_confidence, or train without use_confidence")
    return (weights * len(weights) / total).astype(np.float32)


def threshold_weights(
    labels: Sequence[int] | np.ndarray, num_levels: int, weighting: ThresholdWeighting
) -> list[float] | None:
    """Weight of each of the K - 1 thresholds, or None for equal ones.

    `"importance"`: the root of the larger side of the threshold, relative to the largest (Cao et al. 2020, sec. 3.4),
    scaled to a mean of one.
    """
    if weighting == "none":
        return None
    levels = np.asarray(labels)
    above = np.asarray([(levels > k).sum() for k in range(1, num_levels)], dtype=np.float64)
    larger = np.sqrt(np.maximum(above, len(levels) - above))
    return (larger * len(larger) / larger.sum()).tolist()


def level_frequencies(labels: Iterable[int], num_levels: int) -> list[float]:
    """Count of each level plus one, so that every level stays possible."""
    counts = Counter(int(label) for label in labels)
    return [counts[level] + 1.0 for level in range(1, num_levels + 1)]
