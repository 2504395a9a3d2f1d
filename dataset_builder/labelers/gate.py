"""A cheap look at the follow-up alone: most are the next question, and need no model to be seen as neutral.

Logistic regression on a text's tokens and pairs of tokens, hashed into buckets (Weinberger et al. 2009), weighted by how
rare they are and scaled to unit length. Below a threshold of its probability of feedback, the classifier is not asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from wildreward.common.errors import UserError

BUCKETS = 1 << 16
PRIMES = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F))
STRENGTH = 3.0  # inverse of the regression's L2 penalty


@dataclass(frozen=True)
class Gate:
    """The trained regression.

    Attributes:
        rarity: (BUCKETS,) inverse document frequencies.
        weights: (BUCKETS,) of the regression.
        bias: of the regression.
        threshold: probability of feedback below which a follow-up is taken for neutral.
        shares: (5,) of each level among labelled follow-ups below the threshold.
    """

    rarity: np.ndarray
    weights: np.ndarray
    bias: float
    threshold: float = 0.0
    shares: tuple[float, ...] = (0.0, 0.0, 1.0, 0.0, 0.0)

    def __call__(self, texts: Sequence[Sequence[int]]) -> np.ndarray:
        """(N,) the probability that a follow-up, given as token ids, is feedback."""
        scores = np.full(len(texts), self.bias)
        for row, buckets in enumerate(map(buckets_of, texts)):
            values = self.rarity[buckets]
            scores[row] += values @ self.weights[buckets] / max(float(np.sqrt(values @ values)), 1e-9)
        return 1 / (1 + np.exp(-scores))

    def save(self, path: Path) -> None:
        """Write the gate to a safetensors file, in half precision."""
        from safetensors.numpy import save_file

        arrays = {"rarity": self.rarity, "weights": self.weights}
        tensors = {name: array.astype(np.float16) for name, array in arrays.items()}
        save_file(tensors | {"numbers": np.asarray([self.bias, self.threshold, *self.shares])}, path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote."""
        from safetensors.numpy import load_file

        found = load_file(path)
        bias, threshold, *shares = found["numbers"].tolist()
        arrays = (found[name].astype(np.float32) for name in ("rarity", "weights"))
        return cls(*arrays, bias, threshold, tuple(shares))

    @classmethod
    def fit(cls, texts: Sequence[Sequence[int]], feedback: np.ndarray) -> Self:
        """Train on follow-ups, given as token ids; (N,) `feedback` says which of them are any.

        Raises:
            UserError: scikit-learn is not installed.
        """
        try:
            from scipy.sparse import csr_matrix
            from sklearn.linear_model import LogisticRegression
            from sklearn.preprocessing import normalize
        except ModuleNotFoundError as error:
            raise UserError("training a labeler needs scikit-learn; pip install 'wildreward[labeler]'") from error
        rows = [buckets_of(text) for text in texts]
        ends = np.cumsum([0, *map(len, rows)])
        counts = csr_matrix((np.ones(ends[-1]), np.concatenate(rows), ends), (len(rows), BUCKETS))
        rarity = 1 + np.log((1 + len(rows)) / (1 + counts.getnnz(axis=0)))
        regression = LogisticRegression(C=STRENGTH, max_iter=1000).fit(normalize(counts.multiply(rarity)), feedback)
        return cls(rarity.astype(np.float32), regression.coef_[0].astype(np.float32), float(regression.intercept_[0]))


def buckets_of(tokens: Sequence[int]) -> np.ndarray:
    """The buckets of a text's tokens and pairs of neighbouring tokens, each once."""
    ids = np.asarray(tokens, np.uint64)
    pairs = ids[:-1] * PRIMES[1] + ids[1:] + np.uint64(1)
    hashes = np.concatenate([ids, pairs]) * PRIMES[0]
    return np.unique((hashes >> np.uint64(40)) % np.uint64(BUCKETS)).astype(np.int64)
