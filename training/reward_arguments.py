"""What `train-reward` trains, on what; how is in `OrdinalRewardConfig`."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from wildreward.common.contrast import KINDS
from wildreward.common.errors import UserError
from wildreward.common.settings import check_above, check_below, check_least

# Options of TrainingArguments that a trainer in Python understands, and what the command has instead.
UNSUPPORTED = {
    "push_to_hub": "run wildreward push --path DIR --repo-id ID when the model is there",
    "hub_token": "set HF_TOKEN in the environment; a token in the settings would be written down with them",
    "resume_from_checkpoint": "run the same command again, it goes on from its last checkpoint",
    "save_only_model": "without the optimizer's state a run that was killed could not go on as if undisturbed",
    "ignore_data_skip": "a run that was killed could not go on with the rows that it has not seen",
}


@dataclass(frozen=True)
class TrainRewardArguments:
    """The dataset, the backbone and what becomes of it."""

    hidden_options: ClassVar[tuple[str, ...]] = tuple(UNSUPPORTED)

    dataset: str = field(metadata={"help": "Dataset folder, parquet or JSON Lines file, or Hub id."})
    base_model: str = field(
        metadata={
            "help": "Hub id or folder of the backbone, an encoder or a decoder; or of a finished reward model to go on from, "
            "with its head, levels, pooling and template."
        }
    )
    pairs: str | None = field(
        default=None,
        metadata={
            "help": "Preference pairs to learn beside the levels: file, folder or Hub id, in TRL's formats (prompt, chosen, "
            "rejected; optional margin, tie); see pair_weight."
        },
    )
    contrast_share: float = field(
        default=0.0,
        metadata={
            "help": "Pairs made from the data itself, for each answer that its user liked (a label of the upper half): the "
            "answer against so many broken ones; 0: none. See contrast_kinds and pair_weight."
        },
    )
    contrast_kinds: list[str] = field(
        default_factory=lambda: list(KINDS),
        metadata={"help": f"Kinds of broken answers, of: {', '.join(KINDS)}."},
    )
    dataset_config: str | None = field(default=None, metadata={"help": "Configuration of the dataset."})
    dataset_revision: str | None = field(default=None, metadata={"help": "Revision of a dataset on the Hub."})
    train_split: str = field(default="train", metadata={"help": "Split to train on; also slices such as train[:1000]."})
    streaming: bool = field(
        default=False, metadata={"help": "Read the dataset as a stream: nothing is stored; needs max_steps."}
    )
    validation_share: float = field(
        default=0.1, metadata={"help": "Share of the train users held out for model selection and calibration."}
    )
    max_validation_rows: int = field(default=2000, metadata={"help": "Most rows held out."})
    num_levels: int | None = field(
        default=None,
        metadata={"help": "Number of feedback levels K; labels are 1..K. Default: 4, or the reward model's."},
    )
    head: Literal["coral", "corn", "independent"] | None = field(
        default=None,
        metadata={
            "help": "Ordinal head: Cao et al. 2020, Shi et al. 2021, or K-1 logistic units. Default: coral, or the reward "
            "model's."
        },
    )
    pooling: Literal["last", "mean", "cls", "sections"] | None = field(
        default=None,
        metadata={
            "help": "How hidden states become one vector; sections: the mean over what comes before the response beside "
            "the mean over the response (encoders). Default: mean for encoders, else last."
        },
    )
    model_revision: str | None = field(default=None, metadata={"help": "Revision of a backbone on the Hub."})
    trust_remote_code: bool = field(default=False, metadata={"help": "Run code that comes with the backbone."})
    dtype: Literal["float32", "bfloat16", "float16"] = field(
        default="float32", metadata={"help": "Type the weights are kept in; bfloat16 mainly for frozen ones (LoRA)."}
    )
    attn_implementation: str | None = field(
        default=None, metadata={"help": "Attention: sdpa, eager, flash_attention_2 …; default: the backbone's."}
    )
    lora_rank: int = field(
        default=0, metadata={"help": "Train LoRA adapters of this rank on all linear layers; 0: all."}
    )
    lora_alpha: int = field(default=32, metadata={"help": "Scale of the LoRA adapters."})
    lora_dropout: float = field(default=0.05, metadata={"help": "Dropout before the LoRA adapters."})
    frozen_layers: int = field(
        default=0, metadata={"help": "Keep the embeddings and so many of the first layers as they are; 0: train all."}
    )
    calibrate: bool = field(default=True, metadata={"help": "Fit the thresholds' temperatures on the held-out rows."})

    def __post_init__(self) -> None:
        check_least(
            ("lora_rank", self.lora_rank, 0),
            ("lora_dropout", self.lora_dropout, 0),
            ("frozen_layers", self.frozen_layers, 0),
            ("max_validation_rows", self.max_validation_rows, 1),
            ("num_levels", self.num_levels, 2),
            ("contrast_share", self.contrast_share, 0),
        )
        if unknown := [kind for kind in self.contrast_kinds if kind not in KINDS]:
            raise UserError(f"contrast_kinds holds {', '.join(unknown)}; expected of {', '.join(KINDS)}")
        if not self.contrast_share and tuple(self.contrast_kinds) != tuple(KINDS):
            raise UserError(
                "contrast_kinds has no effect without contrast pairs; set --contrast-share, or leave it out"
            )
        if self.contrast_share and self.streaming:
            raise UserError(
                "contrast pairs take answers from the whole dataset, which a stream does not have at once; set "
                "--contrast-share 0, or leave --streaming out"
            )
        check_above(("validation_share", self.validation_share, 0), ("lora_alpha", self.lora_alpha, 0))
        check_below(("validation_share", self.validation_share, 1), ("lora_dropout", self.lora_dropout, 1))
        if self.lora_rank and self.frozen_layers:
            raise UserError(
                f"frozen_layers is {self.frozen_layers} and lora_rank is {self.lora_rank}; under adapters all layers are "
                "frozen already and all get an adapter: choose one of the two"
            )
