"""A small classifier of follow-ups: low-rank adapters on MiniLM, trained on the labelled follow-ups.

It reads the follow-up, and beside it a little of the query and of the answer, and gives a probability for each of the
five levels. Its adapters (LoRA, Hu et al. 2021) and its head lie in `data/feedback_classifier.safetensors`; the encoder
comes from the Hub or from its package. `benchmarks/train_feedback_classifier.py` trains it.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wildreward.bundled import MINILM, resolve
from wildreward.dataset_builder.encoder_files import PLAIN_BERT_FILES, is_plain_bert
from wildreward.errors import UserError

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

ADAPTERS = Path(__file__).parents[1] / "data" / "feedback_classifier.safetensors"
WITHOUT = "--cues-classifier False (labeler_options={'classifier': False} from Python) does without it"
BATCH_TOKENS = 1024  # of one core's pass
CLS, SEP = 101, 102  # of the encoder's vocabulary

# Tokens that are shown: of the follow-up the beginning and the end, of the query the beginning, of the answer both.
FEEDBACK_HEAD, FEEDBACK_TAIL, QUERY, RESPONSE_HEAD, RESPONSE_TAIL = 56, 24, 16, 16, 28
# Characters of them that are tokenised; a follow-up longer than LONG is cut in two.
LONG, HEAD_CHARACTERS, TAIL_CHARACTERS, QUERY_CHARACTERS, OPENING, CLOSING = 500, 420, 200, 150, 150, 250

Texts = tuple[str, str, str]  # query, response, feedback


class FeedbackClassifier:
    """Probabilities of the five levels for follow-ups, computed on the CPU.

    Args:
        adapters: file with the adapters and the head.
        threads: cores to use; None: all.

    Raises:
        UserError: the encoder is not the one that the adapters were trained on, or cannot be had.
    """

    def __init__(self, adapters: Path = ADAPTERS, threads: int | None = None) -> None:
        import torch
        from safetensors.torch import load_file

        from wildreward.dataset_builder.embedding import best_dtype
        from wildreward.dataset_builder.packed_bert import PackedBert

        trained = load_file(adapters)
        settings = read_settings(adapters)
        self.head, self.bias = trained.pop("head.weight").float(), trained.pop("head.bias").float()

        def adjust(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            if weights_digest(weights) != settings["encoder_digest"]:
                raise UserError(f"{MINILM} here is not the one the cues' classifier was trained on; {WITHOUT}")
            return weights | merged(weights, trained, settings["scale"])

        folder = encoder_folder()
        self.encoder = PackedBert(folder, best_dtype("cpu"), max_tokens=512, adjust=adjust)
        self.tokenizer = plain_tokenizer(folder)
        count = threads or len(os.sched_getaffinity(0))
        self.pool = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))

    def probabilities(self, turns: Sequence[Texts]) -> np.ndarray:
        """The probabilities of levels 1 to 5 (N, 5) for each (query, response, feedback), the same for any number of cores."""
        from wildreward.dataset_builder.embedding import length_batches

        rows = token_ids(self.tokenizer, turns)
        found = np.zeros((len(rows), 5), np.float32)

        def classify(batch: list[int]) -> None:
            states = self.encoder([rows[row][0] for row in batch], [rows[row][1] for row in batch])
            found[batch] = (states @ self.head.T + self.bias).softmax(-1).numpy()

        list(self.pool.map(classify, reversed(length_batches([len(ids) for ids, _ in rows], BATCH_TOKENS))))
        return found

    def close(self) -> None:
        """End the threads."""
        self.pool.shutdown()


def encoder_folder() -> Path:
    """Where MiniLM's files are, from its package, the Hub's cache or the Hub.

    Raises:
        UserError: they cannot be had.
    """
    folder = Path(resolve(MINILM))
    if not folder.is_dir():
        folder = _from_hub()
    if not is_plain_bert(folder):
        raise UserError(f"{MINILM} here is incomplete; {WITHOUT}")
    return folder


def _from_hub() -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    wanted = {"repo_id": MINILM, "allow_patterns": list(PLAIN_BERT_FILES)}
    try:
        found = Path(snapshot_download(**wanted, local_files_only=True))
        if is_plain_bert(found):
            return found
    except LocalEntryNotFoundError:
        pass
    try:
        return Path(snapshot_download(**wanted))
    except Exception as error:  # of the network, in the forms of whatever client the Hub library uses
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"cannot load {MINILM} for the cues' classifier ({reason}); {WITHOUT}") from error


@cache
def read_settings(adapters: Path = ADAPTERS) -> dict:
    """What the adapters' file says about itself."""
    from safetensors import safe_open

    with safe_open(adapters, framework="np") as file:
        return json.loads(file.metadata()["settings"])


@cache
def version(rules: str, adapters: Path = ADAPTERS) -> str:
    """A digest of the adapters, of what they are shown, and of the `rules` by which their probabilities decide.

    Not of the number format: where the hardware computes in bfloat16, a probability may differ in its third digit.
    """
    shown = (FEEDBACK_HEAD, FEEDBACK_TAIL, QUERY, RESPONSE_HEAD, RESPONSE_TAIL)
    shown += (LONG, HEAD_CHARACTERS, TAIL_CHARACTERS, QUERY_CHARACTERS, OPENING, CLOSING)
    return hashlib.sha256(adapters.read_bytes() + f"{shown}{rules}".encode()).hexdigest()[:12]


def weights_digest(weights: "dict[str, torch.Tensor]") -> str:
    """Tells encoders apart by the matrices behind attention and of the feed-forward parts of all layers."""
    digest = hashlib.sha256()
    for name in sorted(name for name in weights if name.endswith(".dense.weight") and "pooler" not in name):
        digest.update(weights[name].float().numpy().tobytes())
    return digest.hexdigest()[:16]


def merged(
    weights: "dict[str, torch.Tensor]", adapters: "dict[str, torch.Tensor]", scale: float
) -> "dict[str, torch.Tensor]":
    """The adapted weights: W + scale · B A for each pair `<module>.A` (r, in), `<module>.B` (out, r)."""
    modules = sorted({name.removesuffix(".A") for name in adapters if name.endswith(".A")})
    return {
        f"{module}.weight": weights[f"{module}.weight"].float()
        + scale * adapters[f"{module}.B"].float() @ adapters[f"{module}.A"].float()
        for module in modules
    }


def plain_tokenizer(folder: Path) -> "Tokenizer":
    """The encoder's tokenizer, neither cutting nor padding, and blind to the encoder's marks in a text."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer


def token_ids(tokenizer: "Tokenizer", turns: Sequence[Texts]) -> list[tuple[list[int], int]]:
    """What the classifier reads of each turn, and how many tokens of it, from the start, belong to the follow-up."""
    pieces: list[str] = []
    for query, response, feedback in turns:
        shown = feedback.strip()
        beginning, end = (shown, "") if len(shown) <= LONG else (shown[:HEAD_CHARACTERS], shown[-TAIL_CHARACTERS:])
        pieces += [beginning, end, query.strip()[:QUERY_CHARACTERS]]
        pieces += [response.strip()[:OPENING], response.strip()[-CLOSING:]]
    ids = [found.ids for found in tokenizer.encode_batch(pieces, add_special_tokens=False)]
    rows = []
    for beginning, end, query, opening, closing in zip(*(ids[place::5] for place in range(5)), strict=True):
        shown = beginning[:FEEDBACK_HEAD] + (end or beginning[FEEDBACK_HEAD:])[-FEEDBACK_TAIL:]
        answer = opening[:RESPONSE_HEAD] + closing[-RESPONSE_TAIL:]
        rows.append(([CLS, *shown, SEP, *query[:QUERY], SEP, *answer, SEP], len(shown) + 2))
    return rows
