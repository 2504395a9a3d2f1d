"""What every client of a server reads the same way: when to come back, what went wrong, and what it began with."""

import email.utils
import time
from typing import Any


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


def root_cause(error: BaseException) -> BaseException:
    """What an error began with: libraries wrap a refused connection several times."""
    return root_cause(error.__cause__) if error.__cause__ else error


def error_text(body: Any) -> str:
    """What went wrong by an error's JSON. The request that it may echo stays out: it holds chat text."""
    for name in ("error", "detail", "message"):
        body = body.get(name, body) if isinstance(body, dict) else body
    parts = body if isinstance(body, list) else [body]
    said = [part.get("msg") or part.get("message") if isinstance(part, dict) else part for part in parts]
    return "; ".join(text for text in said if isinstance(text, str))
