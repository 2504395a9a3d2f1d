"""Settings of `BestOfNDPOTrainer`: those of TRL's RLOO trainer, whose rollouts it uses, and what pairs need."""

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

from trl import RLOOConfig

from wildreward.common.settings import check_above, check_least
from wildreward.training.model_setup import choose_precision

# Fields of RLOOConfig that steer another loss and would be silently without effect here.
WITHOUT_EFFECT = (
    "epsilon", "epsilon_high", "normalize_advantages", "mask_truncated_completions", "label_smoothing_factor",
)  # fmt: skip
# What decides the resulting weights beside `resume.RESUME_KEYS`; evaluating draws random numbers, which training then goes on
# from.
RESUME_KEYS = (
    "beta", "loss_type", "min_margin", "choose_truncated", "reward_guard", "reward_weights", "reward_clip_range", "num_generations",
    "num_generations_eval", "num_iterations", "steps_per_generation", "max_completion_length", "temperature", "top_p",
    "top_k", "min_p", "repetition_penalty", "generation_kwargs", "chat_template_kwargs", "shuffle_dataset",
    "sync_ref_model", "ref_model_mixup_alpha", "ref_model_sync_steps", "eval_strategy", "eval_steps",
)  # fmt: skip


@dataclass
class BestOfNDPOConfig(RLOOConfig):
    """Batch sizes count completions, as everywhere in TRL: `per_device_train_batch_size` is a multiple of
    `num_generations`, and each `num_generations` of them make one pair, that is two sequences with a gradient pass.
    Prompts per optimizer step = per_device_train_batch_size / num_generations * processes * accumulation steps.
    """

    learning_rate: float = field(default=5e-7, metadata={"help": "The initial learning rate for AdamW."})
    num_generations: int = field(
        default=8, metadata={"help": "Completions sampled and scored per prompt; the best and the worst make the pair."}
    )
    beta: float = field(
        default=0.1, metadata={"help": "Strength of the pull towards the reference model in the DPO loss."}
    )
    loss_type: Literal["sigmoid", "ipo", "sigmoid_norm"] = field(
        default="sigmoid",
        metadata={
            "help": "Loss on a pair: `sigmoid` (DPO), `ipo`, or `sigmoid_norm` (DPO on log-ratios averaged over tokens, "
            "so that length alone earns nothing)."
        },
    )
    min_margin: float = field(
        default=0.0,
        metadata={"help": "Pairs whose rewards differ by less than this are masked. Equal rewards always are."},
    )
    choose_truncated: bool = field(
        default=False,
        metadata={"help": "Whether a completion cut off at max_completion_length may be the chosen one."},
    )

    reward_guard: bool = field(
        default=False,
        metadata={
            "help": "Never choose a completion that is shorter than a sentence, repeats itself or refuses, while the prompt has "
            "another."
        },
    )

    def __post_init__(self) -> None:
        check_above(
            ("learning_rate", self.learning_rate, 0),
            ("num_train_epochs", self.num_train_epochs if self.max_steps == -1 else None, 0),
            ("beta", self.beta, 0),  # DPO needs a reference model
        )
        check_least(("max_steps", 1 if self.max_steps == -1 else self.max_steps, 1), ("min_margin", self.min_margin, 0))
        choose_precision(self)  # TRL's default is bf16, which some CPUs only emulate, many times slower than fp32
        self._check_groups("per_device_train_batch_size", self.per_device_train_batch_size, self.num_generations)
        super().__post_init__()
        defaults = {f.name: f.default for f in dataclasses.fields(RLOOConfig)}
        ignored = [name for name in WITHOUT_EFFECT if getattr(self, name) != defaults[name]]
        if ignored:
            raise ValueError(
                f"{', '.join(ignored)}: no effect on best-of-n DPO; remove it (see min_margin and choose_truncated)"
            )
        per_prompt = self.num_generations_eval or self.num_generations
        if self.eval_strategy == "no":  # held-out prompts may still be sampled, and nobody chose this size
            self.per_device_eval_batch_size = max(1, self.per_device_eval_batch_size // per_prompt) * per_prompt
        self._check_groups("per_device_eval_batch_size", self.per_device_eval_batch_size, per_prompt)
        if self.steps_per_generation % self.gradient_accumulation_steps:
            raise ValueError(
                f"steps_per_generation ({self.steps_per_generation}) must be a multiple of gradient_accumulation_steps "
                f"({self.gradient_accumulation_steps}): the loss is averaged over the pairs of an optimizer step, whose "
                "number must be known at its first accumulation step"
            )

    def _check_groups(self, name: str, size: int, per_prompt: int) -> None:
        """All completions of a prompt stay on one process and make one pair there."""
        if size % per_prompt:
            raise ValueError(
                f"{name} is {size}; it counts completions and must be a multiple of the {per_prompt} generated per "
                f"prompt, for example {max(1, size // per_prompt) * per_prompt}"
            )

    @property
    def pairs_per_device(self) -> int:
        """Pairs with a gradient pass per process and accumulation step."""
        return self.per_device_train_batch_size // self.num_generations

    @property
    def optimizer_steps_per_rollout(self) -> int:
        """Optimizer steps made with the completions of one generation."""
        return self.steps_per_generation * self.num_iterations // self.gradient_accumulation_steps
