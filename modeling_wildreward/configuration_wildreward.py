"""Configuration of a WildReward model: a backbone's own configuration plus the ordinal head on top of it.

This file is copied to the Hub with every model: relative imports, and nothing but transformers.
"""

from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from .backbones import config_of

HEADS = ("coral", "corn", "independent")
POOLINGS = ("last", "mean", "cls", "sections")
MOST_LEVELS = 1_000  # a head of any other size is no feedback scale, and could take all memory


class WildRewardConfig(PreTrainedConfig):
    """Configuration of [`WildRewardForSequenceClassification`].

    Args:
        text_config: configuration of the backbone, as an object or as a dict with `model_type`.
        num_levels: number K of ordered feedback levels; the head has K - 1 thresholds.
        head: `"coral"` (Cao et al. 2020), `"corn"` (Shi et al. 2021) or `"independent"` (one logistic unit a threshold).
        pooling: `"last"` token (decoders); `"mean"`, `"cls"` or `"sections"`, the means over what comes before the
            response and over the response side by side (encoders).
        response_mark: token ids of `<response>` in an input, the mark by which `"sections"` finds it.
        temperatures: K - 1 positive numbers; threshold logit k is divided by the k-th before the sigmoid. Fitted on
            held-out data after training; ones when None.
        max_length: longest input in tokens that the model was trained on; longer ones are shortened by whoever encodes.
        base_model: Hub id or name of the pretrained backbone, for the model card.

    Raises:
        ValueError: a value outside what is listed above, naming it.
    """

    model_type = "wildreward"
    sub_configs = {"text_config": AutoConfig}

    text_config: Any = None
    num_levels: int = 4
    head: str = "coral"
    pooling: str = "last"
    response_mark: list[int] | None = None
    temperatures: list[float] | None = None
    max_length: int = 4096
    base_model: str | None = None
    pad_token_id: int | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        if isinstance(self.text_config, dict):
            self.text_config = config_of(dict(self.text_config))
        if not isinstance(self.text_config, PreTrainedConfig | None):
            raise ValueError(f"text_config is {self.text_config!r}; expected the backbone's configuration, an object")
        # The score is the one regression-like output, whatever number of labels a loader passes along.
        kwargs.pop("num_labels", None)
        kwargs.pop("id2label", None)
        kwargs.pop("label2id", None)
        super().__post_init__(**kwargs, num_labels=1)
        self.check()
        if self.temperatures is None:
            self.temperatures = [1.0] * (self.num_levels - 1)

    def check(self) -> None:
        """Refuse values the model cannot be built with (`ValueError`)."""
        if not _is_whole(self.num_levels, 2, MOST_LEVELS):
            raise ValueError(f"num_levels is {self.num_levels!r}; expected a whole number from 2 to {MOST_LEVELS}")
        if not _is_whole(self.max_length, 1):
            raise ValueError(f"max_length is {self.max_length!r}; expected a whole number of tokens, at least 1")
        if self.head not in HEADS:
            raise ValueError(f"head is {self.head!r}; expected one of {', '.join(HEADS)}")
        if self.pooling not in POOLINGS:
            raise ValueError(f"pooling is {self.pooling!r}; expected one of {', '.join(POOLINGS)}")
        mark = self.response_mark
        if mark is not None and not (isinstance(mark, list) and all(_is_whole(token, 0) for token in mark)):
            raise ValueError(f"response_mark is {mark!r}; expected a list of token ids")
        temperatures, thresholds = self.temperatures, self.num_levels - 1
        if temperatures is not None and not (
            isinstance(temperatures, list | tuple)
            and len(temperatures) == thresholds
            and all(
                isinstance(t, int | float) and not isinstance(t, bool) and 0 < t < float("inf") for t in temperatures
            )
        ):
            raise ValueError(
                f"temperatures are {temperatures!r}; expected {thresholds} positive finite numbers, one for each threshold"
            )


def _is_whole(value: Any, least: int, most: float = float("inf")) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


WildRewardConfig.register_for_auto_class()
