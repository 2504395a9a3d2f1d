"""From labelled turns to the candidates of the dataset: every step in its order.

The order matters: implicit feedback first (it needs the neutral turns), then the verdicts on refusals, and only then are
neutral turns left out and the filters applied.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

from wildreward.dataset_builder.dedup import exact_key, signature
from wildreward.dataset_builder.filters import Filter, filters_by_level, filters_by_text, leave_out
from wildreward.dataset_builder.mining import upgrade_neutral
from wildreward.dataset_builder.privacy import has_findings, mask, published_name
from wildreward.dataset_builder.records import Conversation, Turn
from wildreward.dataset_builder.refusals import apply_verdicts, count_labels
from wildreward.dataset_builder.schemas import PERMUTATIONS, TEXTS, instance_row
from wildreward.dataset_builder.settings import BuildSettings
from wildreward.dataset_builder.text import hash64

Step = Callable[[Iterable[Turn], Counter], Iterator[Turn]]


def selection(settings: BuildSettings, similarities: Sequence[Mapping[str, Any]]) -> list[Step]:
    """What is done to labelled turns. Each step passes all of them on, those left out with their reason.

    Args:
        settings: of the build.
        similarities: of the turns' pairs, rows of `schemas.SIMILARITIES`.
    """
    sought = settings.sought
    filters, cleaning = [*filters_by_level(), *filters_by_text(settings)], [partial(mask, sought=sought)]
    if settings.personal_data == "drop":
        filters, cleaning = [*filters, Filter("personal_data", partial(has_findings, sought=sought))], []
    return [
        count_labels,
        partial(upgrade_neutral, similarities=similarities, threshold=settings.mining_threshold),
        apply_verdicts,
        partial(leave_out, filters=filters),
        *cleaning,
    ]


def select_turns(
    turns: Iterable[Turn], similarities: Sequence[Mapping[str, Any]], settings: BuildSettings, counts: Counter
) -> Iterator[Turn]:
    """Take turns through the `selection`; `counts` is added to."""
    for step in selection(settings, similarities):
        turns = step(turns, counts)
    return iter(turns)


def candidate_row(turn: Turn, settings: BuildSettings, naming_key: str, by_user: bool) -> dict[str, Any]:
    """A selected turn as a row of `schemas.CANDIDATE`; `by_user`: see `split_of`."""
    return {
        **instance_row(turn),
        "user_id": published_name(turn.conversation.user_id, naming_key),
        "split": split_of(turn.conversation, settings.seed, settings.test_fraction, by_user),
        "exact_key": exact_key(turn),
        "signature": signature(turn).tobytes() if settings.near_duplicates else bytes(4 * TEXTS * PERMUTATIONS),
    }


def split_of(conversation: Conversation, seed: int, test_fraction: float, by_user: bool = True) -> str:
    """ "train" or "test": decided by the user alone, so that no user is on both sides.

    A seeded hash needs no global shuffle, gives the same answer on every machine, and does not move when data is added.
    Where no user is known, or with `by_user` false, what the user says first and second takes the user's place: a log of
    requests holds one chat many times, each time a turn longer, and under many ids, and a log of ratings several answers to
    one question. Of a chat that branches, its name does.
    """
    owner = f"user:{conversation.user_id}"
    if not conversation.user_id or not by_user:
        said = islice((message.content for message in conversation.messages if message.role == "user"), 2)
        owner = f"chat:{conversation.branch_of}" if conversation.branch_of else f"opening:{hash64(*said)}"
    digest = hashlib.blake2b(f"{seed}:{owner}".encode(errors="replace"), digest_size=8).digest()
    return "test" if int.from_bytes(digest, "little") < test_fraction * 2**64 else "train"
