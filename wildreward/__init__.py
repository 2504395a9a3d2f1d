"""WildReward: reward models learned from what users really say.

The public names below are imported on first use; `import wildreward` itself loads neither torch nor transformers.
"""

from wildreward.common.lazy import lazy_names

_MODEL = "wildreward.modeling_wildreward"
_NAMES = {
    "RewardScorer": "wildreward.scoring.scorer",
    "WildRewardConfig": _MODEL,
    "WildRewardForSequenceClassification": _MODEL,
    "expected_level": _MODEL,
    "level_probs": _MODEL,
    "ordinal_loss": _MODEL,
    "preference_probability": _MODEL,
    "OrdinalRewardConfig": "wildreward.training",
    "OrdinalRewardTrainer": "wildreward.training",
    "BestOfNDPOConfig": "wildreward.training",
    "BestOfNDPOTrainer": "wildreward.training",
    "RewardFunction": "wildreward.scoring.reward_function",
    "select_pairs": "wildreward.training",
    "OrdinalMetric": "wildreward.evaluation",
    "PairwiseMetric": "wildreward.evaluation",
    "expected_calibration_error": "wildreward.evaluation",
}
__all__ = list(_NAMES)
__getattr__, __dir__ = lazy_names(__name__, _NAMES)
