"""Training: the ordinal reward model, and policies by online DPO with it."""

from wildreward.common.lazy import lazy_names

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "BestOfNDPOConfig": ".dpo_config",
        "BestOfNDPOTrainer": ".dpo_trainer",
        "OrdinalRewardConfig": ".reward_config",
        "OrdinalRewardTrainer": ".reward_trainer",
        "RewardFunction": "wildreward.scoring.reward_function",
        "RewardSourceError": "wildreward.scoring.protocol",
        "hold_out_users": ".reward_data",
        "select_pairs": ".pairs",
    },
)
