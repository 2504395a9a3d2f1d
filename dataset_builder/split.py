"""Which side of the split a turn is on: decided by its user alone, so that no user is on both.

A seeded hash needs no global shuffle, gives the same answer on every machine, and does not move when data is added.
Where no user is known, the beginning of the conversation takes the user's place, up to the second thing the user says: a
log of requests holds one chat many times, each time a turn longer, and under many ids.
"""

import hashlib

from wildreward.dataset_builder.parts import hash64
from wildreward.dataset_builder.records import Conversation


def split_of(conversation: Conversation, seed: int, test_fraction: float) -> str:
    """ "train" or "test"."""
    owner = f"user:{conversation.user_id}"
    if not conversation.user_id:
        first = conversation.first  # a system message may hold the time of the request
        opening = conversation.messages[first : first + 3]
        owner = f"opening:{hash64(*(message.content for message in opening))}"
    digest = hashlib.blake2b(f"{seed}:{owner}".encode(errors="replace"), digest_size=8).digest()
    return "test" if int.from_bytes(digest, "little") < test_fraction * 2**64 else "train"
