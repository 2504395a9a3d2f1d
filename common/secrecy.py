"""What messages may say of addresses and of what servers answer: no password, key or token is repeated."""

import re
from urllib.parse import quote, unquote, urlsplit

SHORTEST_KEY = 8  # of a part of an address; "v1" and "openai" are none


def is_address(url: str) -> bool:
    """Whether a URL is the address of a server over HTTP."""
    try:
        address = urlsplit(url)
        (address.hostname or "").encode("idna")
        named = address.scheme in ("http", "https") and address.hostname and address.port != 0
    except ValueError:
        return False
    return bool(named) and url.isprintable() and " " not in url


def public_address(url: str) -> str:
    """Scheme, host and port of a URL. Users, paths and queries may hold keys, so they are left out.

    >>> public_address("https://me:pw@host:8000/v1/KEY?api_key=x")
    'https://host:8000'
    """
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rsplit('@', 1)[-1]}"


def secrets_of(url: str) -> set[str]:
    """What of an address may be a key, as it stands there, decoded and encoded: path and query whole, and their longer parts.

    `http://host/v1/tenant-12345?key=abcdefgh` → `/v1/tenant-12345`, `tenant-12345`, `key=abcdefgh`, `abcdefgh`
    """
    address = urlsplit(url)
    path = address.path.rstrip("/")
    parts = [part for part in re.split("[/&=;]", f"{path}/{address.query}") if len(part) >= SHORTEST_KEY]
    found = {path if path != "/v1" else "", address.query, address.fragment, *parts}
    return {*found, *map(unquote, found), *(quote(unquote(part), safe="") for part in found)}


def masked(text: str, *secrets: str | None) -> str:
    """`text` with `***` for each of `secrets`, and for words that begin like a long one: servers repeat keys in part.

    >>> masked("invalid key sk-12345***9ab", "sk-123456789012349ab")
    'invalid key ***'
    """
    for secret in sorted(filter(None, secrets), key=len, reverse=True):  # one may be part of another
        text = text.replace(secret, "***")
        if len(secret) > 16:
            text = re.sub(f"{re.escape(secret[:8])}[^\\s\"']*", "***", text)
    return text
