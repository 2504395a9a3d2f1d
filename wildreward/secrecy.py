"""What messages may say of addresses and of what servers answer: no password, key or token is repeated."""

import re
from urllib.parse import urlsplit


def public_address(url: str) -> str:
    """Scheme, host and port of a URL. Users, paths and queries may hold keys, so they are left out.

    >>> public_address("https://me:pw@host:8000/v1/KEY?api_key=x")
    'https://host:8000'
    """
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rsplit('@', 1)[-1]}"


def masked(text: str, *secrets: str | None) -> str:
    """`text` with `***` for each of `secrets`, and for words that begin like a long one: servers repeat keys in part.

    >>> masked("invalid key sk-12345***9ab", "sk-123456789012349ab")
    'invalid key ***'
    """
    for secret in filter(None, secrets):
        text = text.replace(secret, "***")
        if len(secret) > 16:
            text = re.sub(f"{re.escape(secret[:8])}[^\\s\"']*", "***", text)
    return text
