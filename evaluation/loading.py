"""What a command must know to load any reward model: the same options for `evaluate` and `score`."""

from dataclasses import dataclass, field, fields
from typing import Any

MODEL_HELP = (
    "Reward model: a WildReward folder or Hub id, a sequence classifier with one label (Bradley-Terry), "
    'or the URL of a server that answers POST {"query": [text, …]} with {"rewards": [number, …]}.'
)


@dataclass(kw_only=True)
class LoadingConfig:
    """Options of `load_scorer`."""

    revision: str | None = field(default=None, metadata={"help": "Revision of a model from the Hub."})
    dtype: str = field(default="auto", metadata={"help": "Number format of the weights: auto, float32, bfloat16 …"})
    token_budget: int = field(default=16384, metadata={"help": "Most padded tokens in one forward pass."})
    max_length: int = field(
        default=4096,
        metadata={
            "help": "Longest input in tokens of a classifier; a WildReward model says its own, a URL's server too."
        },
    )
    trust_remote_code: bool = field(default=False, metadata={"help": "Run code from the model's repository."})
    text_tokenizer: str | None = field(
        default=None,
        metadata={"help": "For a URL: tokenizer whose chat template makes the text; default: a plain text form."},
    )

    def loading(self) -> dict[str, Any]:
        """Keyword arguments for `load_scorer`."""
        return {option.name: getattr(self, option.name) for option in fields(LoadingConfig)}
