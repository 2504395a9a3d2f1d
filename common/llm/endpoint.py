"""One attempt at an OpenAI-compatible server, through the `openai` client, and what its failure means.

Neither keys nor addresses are repeated in what is raised or logged.
"""

import asyncio
import logging
import os
import re
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

from wildreward.common.errors import UserError
from wildreward.common.http import error_text, parse_retry_after, root_cause
from wildreward.common.secrecy import is_address, masked, public_address, secrets_of

QUOTA_CODES = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "account_deactivated"}
REMEDIES = {
    401: "check the API key",
    402: "check the account",
    403: "check what the API key may do",
    404: "check --base-url and the name of the model",
}
LONGEST_MESSAGE = 500
# What servers say when a prompt does not fit, some of them with a status that means something else.
TOO_LONG = re.compile(
    r"context.{0,30}(?:length|size|window|limit|overflow|exceed)|(?:exceed|longer|larger|more).{0,60}(?:context|token|max)"
    r"|too (?:long|many tokens)|reduce the length|max\w* (?:model|sequence|prompt|input)[ _]len|tokens must (?:be|have)"
    r"|entity too large",
    re.IGNORECASE,
)


def is_too_long(message: str) -> bool:
    """Whether a server's message says that the prompt does not fit."""
    return bool(TOO_LONG.search(message))


class AttemptFailed(Exception):
    """There is no reply.

    Attributes:
        kind: "throttled": the server has too much to do just now; "slow": no complete answer in time; "failed": a server
            error or a broken connection; "rejected": the server refuses this very request, its size, content or parameters.
        retry_after: for how many seconds the server wants to be left alone, None when it does not say.
    """

    def __init__(
        self, kind: Literal["throttled", "slow", "failed", "rejected"], message: str, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.kind, self.retry_after = kind, retry_after


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
    """A connection pool to one server.

    Args:
        base_url: up to and including `/v1`, perhaps with a query, which goes with every request; None for OpenAI's own.
        api_key_env: environment variable that holds the key.
        connections: the most connections open at once.
    """

    def __init__(self, base_url: str | None, api_key_env: str, connections: int) -> None:
        openai, httpx = load_openai()
        key = check_api_key(base_url, api_key_env)
        address, _, query = (base_url or "").partition("#")[0].partition("?")
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=60)
        self._client = openai.AsyncOpenAI(
            base_url=address or None,
            api_key=key or "none",
            default_query=dict(parse_qsl(query, keep_blank_values=True)),
            max_retries=0,
            timeout=None,
            # Half the CPU of the default transport. A redirect would take the chats to another server.
            http_client=openai.DefaultAioHttpClient(limits=limits, follow_redirects=False),
        )
        self._secrets = [key, *secrets_of(base_url or str(self._client.base_url))]
        self._where = public_address(str(self._client.base_url))
        logging.getLogger("httpx2").addFilter(self._without_address)
        # Releases of openai before 3.54 log requests for debugging, with the chats in them and the whole address.
        logging.getLogger("openai._base_client").setLevel(logging.INFO)

    async def close(self) -> None:
        logging.getLogger("httpx2").removeFilter(self._without_address)
        await self._client.close()

    async def post(self, path: str, body: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Send one request and return the JSON object of the answer, within `seconds` from start to end.

        Raises:
            AttemptFailed: see there.
            UserError: no request can succeed: wrong key, no permission, unknown model, no credit.
        """
        openai, _ = load_openai()
        try:
            async with asyncio.timeout(seconds):
                answer = await self._client.post(path, cast_to=object, body=body)
        except TimeoutError:
            raise AttemptFailed("slow", f"no complete answer within {seconds:g} s", 0.0) from None
        except openai.APIStatusError as error:
            raise self._meaning(error) from None  # it says what the server said, keys and all
        except (openai.APIConnectionError, OSError) as error:  # timeouts of the connection among them
            cause = root_cause(error)
            reason = f"{type(cause).__name__}: {cause}".removesuffix(": ")
            raise AttemptFailed("failed", f"connection failed ({masked(reason, *self._secrets)})") from None
        except (openai.APIResponseValidationError, ValueError, RecursionError):  # no JSON, or no sane one
            answer = None
        # Gateways say OK in front of a server that fails, with a page or an error in the body: that is no reply.
        if not isinstance(answer, dict):
            raise AttemptFailed("failed", "HTTP 200, but the body is no JSON object")
        if answer.get("error") and not (answer.keys() & {"choices", "answers"}):
            told = self._told(answer["error"])
            raise AttemptFailed(
                "rejected" if is_too_long(told) else "failed", f"HTTP 200, but the body holds an error: {told}"
            )
        return answer

    def _meaning(self, error: Any) -> Exception:
        """Of an `openai.APIStatusError`."""
        status, message = error.status_code, self._told(error.body) or self._told(error.message)
        retry_after = parse_retry_after(error.response.headers)
        if status == 429 and ({error.code, error.type} & QUOTA_CODES):
            return UserError(f"the server at {self._where} says the quota is used up: {message}; nothing was retried")
        if status == 429 or (status in (503, 529) and retry_after is not None):
            return AttemptFailed("throttled", f"HTTP {status}: {message}", retry_after)
        if status in (400, 413, 422) or (status >= 500 and is_too_long(message)):
            return AttemptFailed("rejected", message)
        if status >= 500 or status in (408, 409, 425):
            return AttemptFailed("failed", f"HTTP {status}: {message}")
        remedy = REMEDIES.get(status, "check --base-url")
        return UserError(f"the server at {self._where} answered HTTP {status}: {message}; {remedy}")

    def _without_address(self, record: logging.LogRecord) -> bool:
        """A filter: httpx logs the whole address of every request."""
        return self._where not in record.getMessage()

    def _told(self, body: Any) -> str:
        """What an error's body says, in one line, without the key and without what may be one in the address."""
        return masked(" ".join(error_text(body).split()), *self._secrets)[:LONGEST_MESSAGE]


def load_openai() -> tuple[Any, Any]:
    """The modules `openai` and `httpx2`, or a `UserError` that says how to install them."""
    try:
        import aiohttp  # noqa: F401 - the client's transport
        import httpx2
        import openai
    except ImportError as error:
        raise UserError("asking an endpoint needs the openai package; pip install 'wildreward[llm]'") from error
    return openai, httpx2
