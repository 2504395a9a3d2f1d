"""What Prometheus reads of a server: requests by their outcome, scores, seconds, and what waits."""

from collections.abc import Callable

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)


class Metrics:
    """The numbers of one server.

    Args:
        waiting: tells how many conversations wait.
    """

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, waiting: Callable[[], int]) -> None:
        registry = self.registry = CollectorRegistry()
        self.requests = Counter(
            "wildreward_requests",
            "Requests by status; 499: the client left.",
            ["endpoint", "status"],
            registry=registry,
        )
        self.seconds = Histogram(
            "wildreward_request_seconds",
            "Seconds from a request's head to its answer, of requests that were answered with a 200.",
            ["endpoint"],
            registry=registry,
            buckets=SECONDS,
        )
        self.scores = Counter("wildreward_scores", "Conversations scored.", registry=registry)
        self.tokens = Counter("wildreward_tokens", "Tokens of the conversations scored.", registry=registry)
        queue = Gauge("wildreward_waiting", "Conversations that wait to be scored.", registry=registry)
        queue.set_function(waiting)
        ProcessCollector(registry=registry)

    def answered(self, endpoint: str, status: int, seconds: float) -> None:
        """Count a request."""
        self.requests.labels(endpoint, str(status)).inc()
        if status == 200:
            self.seconds.labels(endpoint).observe(seconds)

    def scored(self, conversations: int, tokens: int) -> None:
        """Count conversations."""
        self.scores.inc(conversations)
        self.tokens.inc(tokens)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)
