"""Configuration of a WildReward model: a backbone's own configuration plus the ordinal head on top of it.

This file is copied to the Hub with every model, so it imports nothing but transformers.
"""

from typing import Any

from transformers import AutoConfig, PreTrainedConfig

HEADS = ("coral", "corn", "independent")
POOLINGS = ("last", "mean", "cls", "sections")


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

    def __post_init__(self, **kwargs: Any) -> None:
        if isinstance(self.text_config, dict):
            values = dict(self.text_config)
            self.text_config = AutoConfig.for_model(values.pop("model_type"), **values)
        # The score is the one regression-like output, whatever number of labels a loader passes along.
        kwargs.pop("num_labels", None)
        kwargs.pop("id2label", None)
        kwargs.pop("label2id", None)
        super().__post_init__(**kwargs, num_labels=1)
        if self.temperatures is None:
            self.temperatures = [1.0] * (self.num_levels - 1)
        self.check()

    def check(self) -> None:
        """Refuse values the model cannot be built with (`ValueError`)."""
        if self.num_levels < 2:
            raise ValueError(f"num_levels is {self.num_levels}; an ordinal model needs at least 2 levels")
        if self.head not in HEADS:
            raise ValueError(f"head is {self.head!r}; expected one of {', '.join(HEADS)}")
        if self.pooling not in POOLINGS:
            raise ValueError(f"pooling is {self.pooling!r}; expected one of {', '.join(POOLINGS)}")
        if len(self.temperatures) != self.num_levels - 1 or not all(0 < t < float("inf") for t in self.temperatures):
            raise ValueError(
                f"temperatures are {self.temperatures}; expected {self.num_levels - 1} positive finite numbers, "
                "one for each threshold"
            )


WildRewardConfig.register_for_auto_class()
