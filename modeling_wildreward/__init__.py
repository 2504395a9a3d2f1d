"""The reward model itself. Importing this package makes transformers' Auto classes know `model_type: wildreward`."""

from transformers import AutoConfig, AutoModelForSequenceClassification

from .configuration_wildreward import WildRewardConfig
from .modeling_wildreward import WildRewardForSequenceClassification, WildRewardOutput
from .ordinal import OrdinalHead, expected_level, level_probs, ordinal_loss, positive_from, preference_probability
from .template import response_mark

AutoConfig.register(WildRewardConfig.model_type, WildRewardConfig, exist_ok=True)
AutoModelForSequenceClassification.register(WildRewardConfig, WildRewardForSequenceClassification, exist_ok=True)

__all__ = [
    "OrdinalHead",
    "WildRewardConfig",
    "WildRewardForSequenceClassification",
    "WildRewardOutput",
    "expected_level",
    "level_probs",
    "ordinal_loss",
    "positive_from",
    "preference_probability",
    "response_mark",
]
