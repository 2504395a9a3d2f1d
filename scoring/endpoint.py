"""One attempt at a reward server: the address, the token, the time, the size of the answer, and what a failure means.

Neither the token nor what may be a key in the address is repeated in what is raised.
"""

import asyncio
import json
import os
import re
from functools import cache
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx2

from wildreward.common.http import error_text, parse_retry_after, root_cause
from wildreward.common.names import source_name
from wildreward.common.secrecy import is_address, masked, secrets_of
from wildreward.scoring.protocol import RewardSourceError

TRANSIENT_STATUS = (408, 425, 429, 500, 502, 503, 504)
OTHER_FORM_STATUS = (400, 422)  # what a server answers that does not know the form of a request
TOKEN_VARIABLE = "WILDREWARD_REWARD_TOKEN"
ERROR_BYTES = 100_000
"""How much of an error's body is read."""
SHOWN = 200
"""Characters of what a server says that a message repeats."""


class TransientError(Exception):
    """An attempt failed in a way that may pass."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class FormRefused(RewardSourceError):
    """The server does not take this request; one of another form it may."""


def check_address(url: str) -> None:
    """Make sure that an address can be asked, and holds no user name or password: these were never sent.

    Raises:
        RewardSourceError: neither; what may be a key is not repeated.
    """
    try:
        valid = is_address(url) and httpx2.URL(url).host
    except httpx2.InvalidURL:
        valid = False
    if not valid:
        raise RewardSourceError(
            "the address of the reward server cannot be read; expected http(s)://HOST[:PORT]/PATH without spaces or line "
            "breaks, and a port up to 65535"
        )
    if "@" in urlsplit(url).netloc:
        raise RewardSourceError(
            f"the address of the reward server {source_name(url)} holds a user name or password; take it out, and put "
            f"the server's bearer token into the environment variable {TOKEN_VARIABLE}"
        )


def bearer_token() -> str | None:
    """The token that reward servers are sent, None where there is none.

    Raises:
        RewardSourceError: it cannot be sent in a header.
    """
    token = os.environ.get(TOKEN_VARIABLE) or None
    if token and (wrong := re.search(r"[^!-~]", token)):
        raise RewardSourceError(
            f"character {wrong.start() + 1} of {len(token)} in the environment variable {TOKEN_VARIABLE} cannot be sent; "
            "expected the token alone: ASCII letters, digits and signs, no spaces or line breaks"
        )
    return token


class Endpoint:
    """One address, which [`check_address`] has seen.

    Redirects are not followed: the bearer token is for this address alone. The proxies of the environment (HTTPS_PROXY,
    NO_PROXY …) are used, except for this machine.

    Raises:
        RewardSourceError: a token or proxy that cannot be used.
    """

    def __init__(self, url: str) -> None:
        bearer_token()
        self.url, self.name = url, source_name(url)
        self._proxy = _proxy_of(httpx2.URL(url))
        _transport(os.getpid(), self._proxy)

    async def post(self, body: bytes, seconds: float, limit: int) -> bytes:
        """The body, of at most `limit` bytes, of an answer whose status is good, within `seconds` from start to end.

        Raises:
            TransientError: it may be tried again.
            RewardSourceError: it need not.
        """
        # Compressed answers are not asked for: they would be small to send and large to hold.
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity", "User-Agent": "wildreward"}
        if token := bearer_token():
            headers["Authorization"] = f"Bearer {token}"
        request = httpx2.Request("POST", self.url, headers=headers, content=body)
        try:
            async with asyncio.timeout(seconds):
                response = await _transport(os.getpid(), self._proxy).handle_async_request(request)
                try:
                    return await self._read(response, limit)
                finally:
                    await response.aclose()
        except TimeoutError:
            raise TransientError(f"no complete answer in {seconds:.3g} s") from None
        except httpx2.TransportError as error:
            reason = self.shown(str(root_cause(error)))
            raise TransientError(f"{type(error).__name__}: {reason}") from None  # it may hold what the server said

    async def _read(self, response: httpx2.Response, limit: int) -> bytes:
        status, good = response.status_code, 200 <= response.status_code < 300
        body = bytearray()
        async for part in response.aiter_raw():
            body += part
            if len(body) > (limit if good else ERROR_BYTES):
                break
        if good and len(body) > limit:
            raise self.refusal(f"sent more than {limit} bytes for one batch; expected only its rewards")
        if good:
            return bytes(body)
        if 300 <= status < 400:
            raise self.refusal(
                f"answered with a redirect (HTTP {status}), which is not followed: the bearer token is for this address "
                "alone; give the address that it leads to"
            )
        message = f"HTTP {status} {self.shown(_reason(bytes(body[:ERROR_BYTES])))}".strip()
        if status in TRANSIENT_STATUS:
            raise TransientError(message, parse_retry_after(response.headers))
        kind = FormRefused if status in OTHER_FORM_STATUS else RewardSourceError
        raise self.refusal(f"refused the request: {message}", kind)

    def refusal(self, what: str, kind: type[RewardSourceError] = RewardSourceError) -> RewardSourceError:
        """An error that names the server."""
        return kind(f"reward server {self.name} {what}")

    def shown(self, text: str) -> str:
        """What a server says: one short line, without the token, and without what may be a key in the address."""
        text = masked(text, bearer_token(), *secrets_of(self.url))
        line = " ".join(text.split())[:SHOWN]
        return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in line)


@cache
def _transport(process: int, proxy: str | None) -> httpx2.AsyncHTTPTransport:
    """Connections, kept alive between requests. Unlike a client, a transport logs no addresses and keeps no cookies.

    Raises:
        RewardSourceError: there cannot be such a proxy.
    """
    try:
        return httpx2.AsyncHTTPTransport(proxy=proxy, limits=httpx2.Limits())
    except (ImportError, ValueError, httpx2.InvalidURL) as error:
        raise RewardSourceError(
            "the proxy that the environment names for the reward server cannot be used; expected http://HOST:PORT (for "
            "socks5://, pip install 'httpx2[socks]'), or the server's host in NO_PROXY"
        ) from error


def _proxy_of(address: httpx2.URL) -> str | None:
    """The proxy that the environment names for an address; none for this machine, which a proxy would not find."""
    if re.fullmatch(r"localhost|127\..*|::1", address.host) or proxy_bypass(address.netloc.decode()):
        return None
    proxies = getproxies()
    proxy = proxies.get(address.scheme) or proxies.get("all")
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy


def _reason(body: bytes) -> str:
    """What the body of an error says."""
    try:
        return error_text(json.loads(body, parse_int=float))
    except (ValueError, RecursionError):
        return body.decode("utf-8", "replace")
