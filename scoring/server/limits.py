"""What the server lets a request, a connection, and all of them together take."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds in bytes, counts and seconds."""

    max_body: int = 64 << 20
    """Bytes of a request's body."""
    max_conversations: int = 1024
    """Conversations of a request."""
    max_waiting: int = 4096
    """Conversations that may wait."""
    max_connections: int = 1024
    """Connections that may ask for scores; a few more may ask for `/health` and the like."""
    max_characters: int = 1_000_000
    """Characters of a conversation."""
    max_messages: int = 10_000
    """Messages of a conversation."""
    max_values: int = 500_000
    """Texts, lists, objects and commas in a body's JSON: what parsing it may take in time and memory."""
    max_uploads: int = 128 << 20
    """Bytes of all bodies together that come in or wait to be tokenized."""
    max_head: int = 64 << 10
    """Bytes of a request's first line and headers."""
    max_pipelined: int = 100
    """Requests that a connection may send ahead of the answer to its first."""
    head_seconds: float = 10
    """Seconds that a request's first line and headers may take."""
    idle_seconds: int = 5
    """Seconds that a connection stays open without a request."""
    upload_seconds: float = 60
    """Seconds that a body may take."""
    stall_seconds: float = 20
    """Seconds that a body may stand still."""
