"""One attempt at an OpenAI-compatible server, through the `openai` client, and what its failure means.

The client's own retries are off: who tries again, and when, is decided for the whole run at once (see `asking`).
"""

import asyncio
import email.utils
import logging
import os
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qsl, urlsplit

from wildreward.errors import UserError
from wildreward.secrecy import is_address, masked, public_address, secrets_of

if TYPE_CHECKING:
    import openai

logger = logging.getLogger(__name__)

QUOTA_CODES = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "account_deactivated"}
LONGEST_MESSAGE = 500


class Throttled(Exception):
    """The server has too much to do just now; it may have said for how many seconds to leave it alone."""

    def __init__(self, message: str, retry_after: float | None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Transient(Exception):
    """A failure that asking again may cure: a server error, a broken connection, a timeout."""


class TimedOut(Transient):
    """No complete answer in time: perhaps more is asked at once than the server can do."""


class Rejected(Exception):
    """The server refuses this very request: its size, its content or one of its parameters."""


def check_api_key(base_url: str | None, api_key_env: str) -> str:
    """The API key from the environment; servers other than OpenAI's may go without.

    Raises:
        UserError: none is set and OpenAI's own server would be asked, or no HTTP header can hold it.
    """
    if not api_key_env.isidentifier():
        raise UserError(
            "--api-key-env is not the name of an environment variable (it is not repeated, for it may be the key itself); "
            "expected one such as OPENAI_API_KEY"
        )
    key = os.environ.get(api_key_env, "").strip()
    if not key and base_url is None:
        raise UserError(
            f"no API key in the environment variable {api_key_env}; set it (or name another with --api-key-env), "
            "or give the address of your own server with --base-url http://host:port/v1"
        )
    if wrong := [place for place, sign in enumerate(key, 1) if not (sign.isascii() and sign.isprintable())]:
        raise UserError(
            f"the API key in the environment variable {api_key_env} has a line break, a control character or one outside "
            f"of ASCII (character {wrong[0]} of {len(key)}), which no HTTP header can hold; set it anew"
        )
    return key


def check_address(base_url: str | None) -> None:
    """Make sure that the address is one, and that no password is in it. It is not repeated: any part may be a key.

    Raises:
        UserError: it is not, or there is one.
    """
    if base_url is None:
        return
    if not is_address(base_url):
        raise UserError(
            "--base-url is not the address of a server (it is not repeated, for it may hold a key); expected one such as "
            "http://host:8000/v1"
        )
    if "@" in urlsplit(base_url).netloc:
        raise UserError("--base-url holds a user name or password; put the key into the environment (--api-key-env)")


class Endpoint:
    """A connection pool to one server. Use as an asynchronous context manager.

    Args:
        base_url: up to and including `/v1`, perhaps with a query, which goes with every request; None for OpenAI's own.
        api_key_env: environment variable that holds the key.
        connections: the most connections open at once.
    """

    def __init__(self, base_url: str | None, api_key_env: str, connections: int) -> None:
        self.base_url = base_url
        self._key = check_api_key(base_url, api_key_env)
        self._connections = connections

    async def __aenter__(self) -> Self:
        openai = load_openai()
        limits = _limits(self._connections)
        base_url, _, query = (self.base_url or "").partition("#")[0].partition("?")
        try:
            http_client = openai.DefaultAioHttpClient(
                limits=limits, follow_redirects=False
            )  # half the CPU of the default transport
        except RuntimeError:  # aiohttp is not installed
            http_client = openai.DefaultAsyncHttpxClient(limits=limits, follow_redirects=False)
        self._client = openai.AsyncOpenAI(
            base_url=base_url or None,
            api_key=self._key or "none",
            default_query=dict(parse_qsl(query, keep_blank_values=True)),
            max_retries=0,
            timeout=None,
            http_client=http_client,
        )
        self._secrets = [self._key, *secrets_of(self.base_url or str(self._client.base_url))]
        logging.getLogger("httpx2").addFilter(self._without_address)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        logging.getLogger("httpx2").removeFilter(self._without_address)
        await self._client.close()

    async def post(self, path: str, body: dict[str, Any], seconds: float) -> Any:
        """Send one request and return the JSON object of the answer, within `seconds` from start to end.

        Raises:
            Throttled, Transient, TimedOut, Rejected: see there.
            UserError: no request can succeed: wrong key, no permission, unknown model, no credit.
        """
        openai = load_openai()
        try:
            async with asyncio.timeout(seconds):
                answer = await self._client.post(path, cast_to=object, body=body)
        except TimeoutError as error:
            raise TimedOut(f"no complete answer within {seconds:g} s") from error
        except openai.APIStatusError as error:
            raise self._meaning(error) from None  # it says what the server said, keys and all
        except (openai.APIConnectionError, OSError) as error:  # timeouts of the connection among them
            raise Transient(f"connection failed ({masked(_innermost(error), *self._secrets)})") from None
        except (openai.APIResponseValidationError, ValueError, RecursionError):  # no JSON, or no sane one
            answer = None
        self._check_answer(answer)
        return answer

    def _check_answer(self, answer: Any) -> None:
        """Gateways say OK in front of a server that fails, with a page or an error in the body: that is no reply.

        Raises:
            Transient: it is one of these.
        """
        if not isinstance(answer, dict):
            raise Transient("HTTP 200, but the body is no JSON object")
        if answer.get("error") and not (answer.keys() & {"choices", "answers"}):
            raise Transient(f"HTTP 200, but the body holds an error: {self._told(answer['error'])}")

    def _meaning(self, error: "openai.APIStatusError") -> Exception:
        status, message = error.status_code, self._server_message(error)
        retry_after = parse_retry_after(error.response.headers)
        if status == 429 and ({error.code, error.type} & QUOTA_CODES):
            return UserError(f"the server at {self._where} says the quota is used up: {message}; nothing was retried")
        if status == 429 or (status in (503, 529) and retry_after is not None):
            return Throttled(f"HTTP {status}: {message}", retry_after)
        if status >= 500 or status in (408, 409, 425):
            return Transient(f"HTTP {status}: {message}")
        if status in (400, 413, 422):
            return Rejected(message)
        remedy = {
            401: "check the API key",
            402: "check the account",
            403: "check what the API key may do",
            404: "check --base-url and --model",
        }.get(status, "check --base-url")
        return UserError(f"the server at {self._where} answered HTTP {status}: {message}; {remedy}")

    def _without_address(self, record: logging.LogRecord) -> bool:
        """A filter: httpx logs the whole address of every request."""
        return self._where not in record.getMessage()

    @property
    def _where(self) -> str:
        return public_address(str(self._client.base_url))

    def _server_message(self, error: "openai.APIStatusError") -> str:
        return self._told(error.body) or self._told(error.message)

    def _told(self, body: Any) -> str:
        """What an error's body says, in one line, without the key and without what may be one in the address."""
        message = body.get("message") or body.get("detail") if isinstance(body, dict) else body
        return masked(" ".join(str(message or "").split()), *self._secrets)[:LONGEST_MESSAGE]


def load_openai() -> Any:
    """The `openai` module, or a `UserError` that says how to install it."""
    try:
        import openai
    except ImportError as error:
        raise UserError("asking an endpoint needs the openai package; pip install 'wildreward[llm]'") from error
    return openai


def _limits(connections: int) -> Any:
    import httpx2

    return httpx2.Limits(max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=60)


def _innermost(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def parse_retry_after(headers: Any) -> float | None:
    """Seconds to wait according to `retry-after-ms` or `retry-after` (seconds or a date); None when absent or unclear."""
    for header, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(header)
        if value is None:
            continue
        try:
            seconds = float(value) * unit
        except ValueError:
            date = email.utils.parsedate_tz(value)
            if date is None:
                continue
            seconds = email.utils.mktime_tz(date) - time.time()
        if seconds == seconds and seconds != float("inf"):
            return max(0.0, seconds)
    return None
