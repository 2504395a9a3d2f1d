"""Training: the ordinal reward model, and policies by online DPO with it."""

from wildreward._lazy import lazy_names

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "BestOfNDPOConfig": ".best_of_n_dpo_config",
        "BestOfNDPOTrainer": ".best_of_n_dpo_trainer",
        "OrdinalRewardConfig": ".ordinal_reward_config",
        "OrdinalRewardTrainer": ".ordinal_reward_trainer",
        "RewardCollator": ".reward_collators",
        "RewardFunction": ".reward_function",
        "RewardSourceError": "wildreward.reward_source",
        "TokenBudgetSampler": ".token_budget_sampler",
        "analyze": ".analyze_command",
        "dpo_loss": ".dpo_loss",
        "hold_out_users": ".reward_data",
        "select_pairs": ".pairs",
        "train_reward": ".reward_command",
    },
)
