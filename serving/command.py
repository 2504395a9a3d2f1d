"""`wildreward serve`: a reward model behind HTTP, for `train-dpo --reward-model URL` and everyone who can POST."""

import logging
import os
from dataclasses import dataclass, field

from wildreward.errors import UserError

logger = logging.getLogger(__name__)


@dataclass
class ServeConfig:
    """What to serve, where, and how much at once."""

    model: str = field(metadata={"help": "WildReward folder or Hub id."})
    host: str = field(default="127.0.0.1", metadata={"help": "Address to listen on; 0.0.0.0 for all."})
    port: int = field(default=8000, metadata={"help": "Port to listen on; 0 for any that is free."})
    revision: str | None = field(default=None, metadata={"help": "Revision of a model from the Hub."})
    dtype: str = field(default="auto", metadata={"help": "Number format of the weights: auto, float32, bfloat16 …"})
    token_budget: int = field(default=16384, metadata={"help": "Most padded tokens in one forward pass."})
    max_body_mb: int = field(default=64, metadata={"help": "Largest request, in MB; a larger one gets a 413."})
    max_conversations: int = field(default=1024, metadata={"help": "Most conversations in a request; else a 413."})
    max_waiting: int = field(default=4096, metadata={"help": "Most conversations that wait; beyond that a 429."})


CONFIGS = (ServeConfig,)


def main(config: ServeConfig) -> None:
    """Load the model and serve it until interrupted."""
    try:
        import uvicorn

        from wildreward.serving.app import Limits, make_app
    except ModuleNotFoundError as error:
        raise UserError(f"serve needs {error.name}; pip install 'wildreward[serve]'") from error
    from wildreward.evaluation.command import check_least
    from wildreward.names import public_name
    from wildreward.reward_source import TOKEN_VARIABLE
    from wildreward.scorer import RewardScorer, default_device

    names = ("token_budget", "max_body_mb", "max_conversations", "max_waiting")
    check_least(*((name, getattr(config, name), 1) for name in names), ("port", config.port, 0))
    scorer = RewardScorer.from_pretrained(
        config.model,
        token_budget=config.token_budget,
        revision=config.revision,
        dtype=config.dtype,
        device_map=default_device(),
    )
    token = os.environ.get(TOKEN_VARIABLE)
    if token is None and config.host not in ("127.0.0.1", "localhost", "::1"):
        logger.warning("anyone who reaches %s may ask; set %s to want a token", config.host, TOKEN_VARIABLE)
    limits = Limits(config.max_body_mb << 20, config.max_conversations, config.max_waiting)
    app = make_app(scorer, public_name(config.model), limits, token)
    uvicorn.run(app, host=config.host, port=config.port, log_level="info", access_log=False)
