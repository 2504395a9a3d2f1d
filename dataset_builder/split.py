"""Which side of the split a turn is on: decided by its user alone, so that no user is on both.

A seeded hash needs no global shuffle, gives the same answer on every machine, and does not move when data is added.
Where no user is known, the conversation takes the user's place.
"""

import hashlib

from wildreward.dataset_builder.records import Conversation


def split_of(conversation: Conversation, seed: int, test_fraction: float) -> str:
    """ "train" or "test"."""
    owner = f"user:{conversation.user_id}" if conversation.user_id else f"conversation:{conversation.source_id}"
    if conversation.user_id is None and conversation.source_id is None:
        owner = f"conversation:{conversation.conversation_id}"
    digest = hashlib.blake2b(f"{seed}:{owner}".encode(errors="replace"), digest_size=8).digest()
    return "test" if int.from_bytes(digest, "little") < test_fraction * 2**64 else "train"
