"""`wildreward serve`: a reward model behind HTTP, for `train-dpo --reward-model URL` and everyone who can POST."""

import gc
import logging
import socket
from dataclasses import dataclass, field

from wildreward.common.errors import UserError

logger = logging.getLogger(__name__)


@dataclass
class ServeConfig:
    """What to serve, where, and how much at once."""

    model: str = field(metadata={"help": "WildReward folder or Hub id."})
    host: str = field(default="127.0.0.1", metadata={"help": "Address to listen on; 0.0.0.0 for all."})
    port: int = field(default=8000, metadata={"help": "Port to listen on; 0 for any that is free."})
    revision: str | None = field(default=None, metadata={"help": "Revision of a model from the Hub."})
    dtype: str = field(default="auto", metadata={"help": "Number format of the weights: auto, float32, bfloat16 …"})
    keep_reasoning: bool = field(
        default=False, metadata={"help": "Judge answers with the reasoning before them, which is taken out by default."}
    )
    token_budget: int | None = field(
        default=None,
        metadata={
            "help": "Most padded tokens in one forward pass, which everyone waits for; default: 16384, and 2048 on a CPU."
        },
    )
    max_body_mb: int = field(default=64, metadata={"help": "Largest request, in MB; a larger one gets a 413."})
    max_conversations: int = field(default=1024, metadata={"help": "Most conversations in a request; else a 413."})
    max_waiting: int = field(default=4096, metadata={"help": "Most conversations that wait; beyond that a 429."})
    max_connections: int = field(
        default=1024,
        metadata={"help": "Most connections that may ask for scores; beyond that a 503, but for /health and the like."},
    )
    max_conversation_characters: int = field(
        default=1_000_000, metadata={"help": "Most characters in a conversation; else a 413."}
    )


CONFIGS = (ServeConfig,)
CPU_TOKENS, GPU_TOKENS = 2_048, 16_384  # a CPU gains nothing from larger passes, which take it many seconds
STOP_SECONDS = 30  # that requests get to end once the server is told to stop
UNREAD_SECONDS = 60  # after which a client that takes nothing of its answer is gone


def main(config: ServeConfig) -> None:
    """Load the model and serve it until interrupted."""
    try:
        from wildreward.scoring.server.app import make_app
        from wildreward.scoring.server.connections import make_server
    except ModuleNotFoundError as error:
        raise UserError(f"serve needs {error.name}; pip install 'wildreward[serve]'") from error
    from wildreward.common.names import public_name
    from wildreward.common.settings import check_least
    from wildreward.scoring.endpoint import TOKEN_VARIABLE, bearer_token
    from wildreward.scoring.load import open_config
    from wildreward.scoring.scorer import RewardScorer, default_device
    from wildreward.scoring.server.limits import Limits

    limited = [name for name in vars(config) if name.startswith("max_")]
    check_least(*((name, getattr(config, name), 1) for name in ("token_budget", *limited)), ("port", config.port, 0))
    if config.port > 65535:
        raise UserError(f"--port is {config.port}; expected at most 65535")
    token, device = bearer_token(), default_device()
    with _listening(config.host, config.port) as listening:
        _, commit = open_config(config.model, config.revision)
        scorer = RewardScorer.from_pretrained(
            config.model,
            token_budget=config.token_budget or (CPU_TOKENS if device == "cpu" else GPU_TOKENS),
            revision=commit,
            dtype=config.dtype,
            keep_reasoning=config.keep_reasoning,
            device_map=device,
        )
        if token is None and config.host not in ("127.0.0.1", "localhost", "::1"):
            logger.warning("anyone who reaches %s may ask; set %s to want a token", config.host, TOKEN_VARIABLE)
        limits = Limits(
            max_body=config.max_body_mb << 20,
            max_conversations=config.max_conversations,
            max_waiting=config.max_waiting,
            max_connections=config.max_connections,
            max_characters=config.max_conversation_characters,
        )
        app = make_app(scorer, public_name(config.model), limits, token, commit and commit.resolved)
        server = make_server(app, limits, timeout_graceful_shutdown=STOP_SECONDS)
        logger.info("serving %s on http://%s:%d", public_name(config.model), config.host, listening.getsockname()[1])
        gc.freeze()  # a collection while a request is parsed need not look at all that was loaded
        server.run(sockets=[listening])


def _listening(host: str, port: int) -> socket.socket:
    """A socket at the address, taken before the model is loaded.

    Raises:
        UserError: it cannot be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind, protocol)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # for answers that nobody reads
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * UNREAD_SECONDS)
        found.bind(address)
        found.listen()
    except OSError as error:
        raise UserError(f"cannot listen on {host}, port {port}: {error.strerror or error}") from error
    return found
