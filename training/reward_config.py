"""Settings of reward training: what `transformers.TrainingArguments` has, with defaults that fit, and a few more."""

import dataclasses
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from transformers import TrainingArguments

from wildreward.common.errors import UserError
from wildreward.common.settings import check_above, check_below, check_least
from wildreward.training.model_setup import choose_precision
from wildreward.training.reward_batching import LevelWeighting, ThresholdWeighting
from wildreward.training.reward_metrics import LESS_IS_BETTER, WATCHED

# Options of TrainingArguments without effect here: `rows_per_step` and `tokens_per_device` cut the batches, training's and
# evaluation's alike, `bf16` and `fp16` choose the precision of both, and an evaluation keeps the outputs of all rows; Liger
# knows no model of this type, nothing is generated, and the batches are the trainer's own.
WITHOUT_EFFECT = (
    "per_device_eval_batch_size", "auto_find_batch_size", "train_sampling_strategy", "length_column_name",
    "dataloader_drop_last", "dataloader_prefetch_factor", "dataloader_persistent_workers",
    "dataloader_multiprocessing_context", "average_tokens_across_devices", "bf16_full_eval", "fp16_full_eval",
    "prediction_loss_only", "batch_eval_metrics", "eval_accumulation_steps", "eval_do_concat_batches",
    "eval_use_gather_object", "use_liger_kernel", "liger_kernel_config", "use_cache", "accelerator_config",
    "remove_unused_columns", "label_names", "logging_nan_inf_filter",
)  # fmt: skip
# What decides the resulting weights beside `resume.RESUME_KEYS`; the second where the best checkpoint is taken, too.
RESUME_KEYS = (
    "rows_per_step", "label_smoothing_factor", "level_weighting", "threshold_weighting", "use_confidence",
    "pair_weight", "keep_cut_responses", "keep_reasoning", "shuffle_buffer", "max_length", "load_best_model_at_end", "early_stopping_patience",
)  # fmt: skip
RESUME_KEYS_OF_BEST = (
    "eval_strategy", "eval_steps", "eval_delay", "save_strategy", "save_steps", "metric_for_best_model",
    "greater_is_better",
)  # fmt: skip


@dataclass
class OrdinalRewardConfig(TrainingArguments):
    """Configuration of [`OrdinalRewardTrainer`]."""

    hidden_options: ClassVar[tuple[str, ...]] = WITHOUT_EFFECT

    rows_per_step: int | None = field(
        default=None,
        metadata={
            "help": "Rows in one optimizer step, over all processes. Default: per_device_train_batch_size times "
            "gradient_accumulation_steps times the number of processes. Passes over the model are cut by "
            "tokens_per_device, whatever this number is."
        },
    )
    tokens_per_device: int = field(
        default=8192,
        metadata={"help": "Most tokens in one forward and backward pass on one device: the bound on memory."},
    )
    pass_overhead: int | None = field(
        default=None,
        metadata={
            "help": "What one more pass costs, in tokens: a step is cut finer where that saves more padding. "
            "Default: 128 on a CPU, 1024 on a GPU, where launching a pass takes as long as computing many tokens."
        },
    )
    padding_free: Literal["auto", "on", "off"] = field(
        default="auto",
        metadata={"help": "Lay rows end to end instead of padding them. `auto`: with flash attention."},
    )
    max_length: int | None = field(
        default=None, metadata={"help": "Longest input in tokens. Default: what the model's configuration says."}
    )
    keep_cut_responses: bool = field(
        default=False,
        metadata={"help": "Also train on rows whose response itself is too long and loses its middle."},
    )
    keep_reasoning: bool = field(
        default=False,
        metadata={"help": "Train on answers with the reasoning before them, which is taken out by default."},
    )
    dataset_num_proc: int | None = field(default=None, metadata={"help": "Processes that tokenize the dataset."})
    shuffle_buffer: int = field(
        default=10_000, metadata={"help": "Rows held back for shuffling when the dataset is streamed."}
    )
    level_weighting: LevelWeighting = field(
        default="none",
        metadata={"help": "Weigh rows by the inverse frequency of their level (`balanced`) or its root (`sqrt`)."},
    )
    threshold_weighting: ThresholdWeighting = field(
        default="none", metadata={"help": "`importance`: weigh the thresholds as in Cao et al. 2020."}
    )
    use_confidence: bool = field(
        default=False,
        metadata={
            "help": "Multiply each row's loss by its label_confidence (scaled to a mean of 1, unless the dataset is streamed)."
        },
    )
    pair_weight: float = field(
        default=1.0,
        metadata={"help": "Weight of the loss on preference pairs, where there are some, beside that on levels."},
    )
    disable_dropout: bool = field(
        default=True,
        metadata={
            "help": "Train the backbone without dropout (adapters keep their own). With dropout on attention "
            "probabilities, attention on a CPU cannot be fused and takes several times as long."
        },
    )
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "Stop after so many evaluations without a better metric_for_best_model."}
    )
    bf16: bool | None = field(
        default=None,
        metadata={"help": "Mixed precision in bfloat16. Default: where the hardware is fast at it."},
    )

    # other defaults than transformers has
    per_device_train_batch_size: int = field(default=32, metadata={"help": "See rows_per_step."})
    learning_rate: float = field(default=1e-5, metadata={"help": "Peak learning rate of AdamW."})
    num_train_epochs: float = field(default=1.0, metadata={"help": "Passes over the dataset."})
    weight_decay: float = field(default=0.01, metadata={"help": "Weight decay of AdamW."})
    warmup_steps: float = field(
        default=0.05, metadata={"help": "Steps of linear warm-up; below 1: share of all steps."}
    )
    lr_scheduler_type: str = field(default="linear", metadata={"help": "Shape of the learning rate after warm-up."})
    logging_steps: float = field(default=10, metadata={"help": "Steps between log lines; below 1: share of all steps."})
    eval_strategy: str = field(default="steps", metadata={"help": "When to evaluate on the held-out rows."})
    eval_steps: float = field(default=0.25, metadata={"help": "Steps between evaluations; below 1: share of all."})
    save_strategy: str = field(default="steps", metadata={"help": "When to write a checkpoint."})
    save_steps: float = field(default=0.25, metadata={"help": "Steps between checkpoints; below 1: share of all."})
    save_total_limit: int | None = field(default=2, metadata={"help": "Checkpoints kept beside the best one."})
    load_best_model_at_end: bool = field(default=True, metadata={"help": "Return to the best checkpoint at the end."})
    metric_for_best_model: str | None = field(
        default="roc_auc", metadata={"help": f"What `best` means: {', '.join(WATCHED)}."}
    )
    greater_is_better: bool | None = field(
        default=None, metadata={"help": "Whether more of that metric is better. Default: as the metric is meant."}
    )
    ddp_find_unused_parameters: bool | None = field(default=False, metadata={"help": "See torch DDP."})

    def __post_init__(self) -> None:
        self._check_values()
        choose_precision(self)
        # a step is planned as a whole, so the Trainer sees one batch a step; nan must stop training, not be smoothed
        accumulation, self.gradient_accumulation_steps = self.gradient_accumulation_steps, 1
        self.logging_nan_inf_filter = False
        self.label_names = ["labels"]
        self.remove_unused_columns = False
        if self.eval_strategy == "no":
            self.load_best_model_at_end = False
        if self.early_stopping_patience is not None:  # a resumed run goes on counting where it was
            self.restore_callback_states_from_checkpoint = True
        super().__post_init__()
        if self.pass_overhead is None:
            self.pass_overhead = 128 if self.device.type == "cpu" else 1024
        if self.rows_per_step is None:
            self.rows_per_step = self.per_device_train_batch_size * accumulation * self.world_size
        if self.rows_per_step < self.world_size:
            raise UserError(
                f"rows_per_step is {self.rows_per_step} for {self.world_size} processes; expected at least one row each"
            )

    def _check_values(self) -> None:
        """Refuse what has no effect, trains nothing or would be found out late, and say which way the best metric goes."""
        defaults = {item.name: item.default for item in dataclasses.fields(self)}
        given = [name for name in WITHOUT_EFFECT if getattr(self, name) != defaults[name]]
        if given:
            raise UserError(
                f"without effect on reward training, remove: {', '.join(given)}; see rows_per_step, tokens_per_device and bf16"
            )
        check_least(
            ("tokens_per_device", self.tokens_per_device, 1),
            ("rows_per_step", self.rows_per_step, 1),
            ("max_length", self.max_length, 1),
            ("shuffle_buffer", self.shuffle_buffer, 1),
            ("early_stopping_patience", self.early_stopping_patience, 1),
            ("dataset_num_proc", self.dataset_num_proc, 1),
            ("pass_overhead", self.pass_overhead, 0),
            ("label_smoothing_factor", self.label_smoothing_factor, 0),
            ("max_steps", 1 if self.max_steps == -1 else self.max_steps, 1),
        )
        check_above(
            ("learning_rate", self.learning_rate, 0),
            ("pair_weight", self.pair_weight, 0),
            ("num_train_epochs", self.num_train_epochs if self.max_steps == -1 else None, 0),
        )
        check_below(("label_smoothing_factor", self.label_smoothing_factor, 1))
        if self.early_stopping_patience is not None and self.eval_strategy == "no":
            raise UserError("early_stopping_patience counts evaluations, and eval_strategy is 'no'; set one of the two")
        if self.metric_for_best_model is None:
            return
        name = self.metric_for_best_model.removeprefix("eval_")
        if name not in WATCHED:
            raise UserError(
                f"metric_for_best_model is {self.metric_for_best_model!r}; expected one of {', '.join(WATCHED)}"
            )
        if self.greater_is_better is None:
            self.greater_is_better = name not in LESS_IS_BETTER

    @property
    def pair_preparation(self) -> tuple[bool, int | None, bool]:
        """`reward_pairs.prepare_pairs`'s last arguments."""
        return self.keep_reasoning, self.dataset_num_proc, self.keep_cut_responses

    @property
    def order_seed(self) -> int:
        """Of the order of the rows."""
        return self.seed if self.data_seed is None else self.data_seed
