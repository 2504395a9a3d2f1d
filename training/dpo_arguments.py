"""What `train-dpo` trains, on what, judged by what; how is in `BestOfNDPOConfig`."""

from dataclasses import dataclass, field
from typing import Literal

from wildreward.scoring.load import SERVED_MODEL_HELP, URL_HELP


@dataclass(frozen=True)
class TrainDPOArguments:
    """The policy, the reward models and the prompts."""

    model: str = field(metadata={"help": "The policy: a folder or Hub id of a causal language model."})
    reward_model: list[str] = field(
        metadata={
            "help": "Reward model folder or Hub id, or the URL of a reward server; several are summed with "
            f"--reward-weights. {URL_HELP}."
        }
    )
    dataset: str = field(
        metadata={
            "help": "Prompts: a feedback dataset, or any folder, file or Hub id with `prompt`, `messages` or "
            "`conversations`."
        }
    )
    dataset_config: str | None = field(default=None, metadata={"help": "Configuration of a dataset that has several."})
    max_prompts: int | None = field(default=None, metadata={"help": "Most prompts to train on; all by default."})
    max_prompt_length: int = field(default=1024, metadata={"help": "Longer prompts, in tokens, are left out."})
    held_out_prompts: int = field(
        default=64, metadata={"help": "Prompts on which the policy is compared before and after; 0 leaves it out."}
    )
    served_model: str | None = field(default=None, metadata={"help": SERVED_MODEL_HELP})
    reward_dtype: Literal["auto", "bfloat16", "float16", "float32"] = field(
        default="auto",
        metadata={
            "help": "Weights of a local reward model, which every process holds. `auto`: bfloat16 on a GPU that has it, else "
            "as saved."
        },
    )
    pairs_only: bool = field(
        default=False,
        metadata={
            "help": "Train nothing: sample, score and select once, and write the pairs as a preference dataset for TRL's "
            "DPOTrainer."
        },
    )
    lora_rank: int = field(default=0, metadata={"help": "Train a LoRA adapter of this rank; 0 trains all weights."})
    lora_alpha: int = field(default=32, metadata={"help": "Scale of the LoRA adapter."})
