"""What `from wildreward import …` gives, for tools that read types; at run time names are imported on first use."""

from wildreward.evaluation.calibration import expected_calibration_error as expected_calibration_error
from wildreward.evaluation.evaluate_metrics import OrdinalMetric as OrdinalMetric
from wildreward.evaluation.evaluate_metrics import PairwiseMetric as PairwiseMetric
from wildreward.modeling_wildreward.configuration_wildreward import WildRewardConfig as WildRewardConfig
from wildreward.modeling_wildreward.modeling_wildreward import (
    WildRewardForSequenceClassification as WildRewardForSequenceClassification,
)
from wildreward.modeling_wildreward.ordinal import expected_level as expected_level
from wildreward.modeling_wildreward.ordinal import level_probs as level_probs
from wildreward.modeling_wildreward.ordinal import ordinal_loss as ordinal_loss
from wildreward.modeling_wildreward.ordinal import preference_probability as preference_probability
from wildreward.scoring.reward_function import RewardFunction as RewardFunction
from wildreward.scoring.scorer import RewardScorer as RewardScorer
from wildreward.training.dpo_config import BestOfNDPOConfig as BestOfNDPOConfig
from wildreward.training.dpo_trainer import BestOfNDPOTrainer as BestOfNDPOTrainer
from wildreward.training.pairs import select_pairs as select_pairs
from wildreward.training.reward_config import OrdinalRewardConfig as OrdinalRewardConfig
from wildreward.training.reward_trainer import OrdinalRewardTrainer as OrdinalRewardTrainer
