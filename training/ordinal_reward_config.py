"""Settings of reward training: what `transformers.TrainingArguments` has, with defaults that fit, and a few more."""

import dataclasses
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from transformers import TrainingArguments

from wildreward.errors import UserError
from wildreward.settings import check_above, check_below, check_least
from wildreward.training.precision import choose_precision
from wildreward.training.reward_metrics import LESS_IS_BETTER, WATCHED
from wildreward.training.reward_weights import LevelWeighting, ThresholdWeighting

# Fields of TrainingArguments for which the trainer has its own ways, and what to use or know instead.
_WITHOUT_EFFECT = {
    "per_device_eval_batch_size": "tokens_per_device bounds an evaluation's passes, too",
    "auto_find_batch_size": "lower tokens_per_device when memory is short",
    "eval_accumulation_steps": "logits leave the device after each pass",
    "train_sampling_strategy": "a step is rows_per_step random rows, cut into passes by length",
    "length_column_name": "lengths are counted",
    "dataloader_drop_last": "the last, short step counts like its rows: choose rows_per_step",
    "dataloader_prefetch_factor": "see dataloader_num_workers",
    "dataloader_persistent_workers": "see dataloader_num_workers",
    "dataloader_multiprocessing_context": "see dataloader_num_workers",
    "prediction_loss_only": "metrics are always computed",
    "batch_eval_metrics": "metrics are computed over all rows",
    "bf16_full_eval": "evaluation computes as bf16 says",
    "fp16_full_eval": "evaluation computes as fp16 says",
    "eval_do_concat_batches": "an evaluation returns all its rows",
    "eval_use_gather_object": "an evaluation returns the rows of all processes",
    "average_tokens_across_devices": "losses are divided by the rows of a step on all processes",
}


@dataclass
class OrdinalRewardConfig(TrainingArguments):
    """Configuration of [`OrdinalRewardTrainer`]."""

    hidden_options: ClassVar[tuple[str, ...]] = tuple(_WITHOUT_EFFECT)

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
        self._refuse_what_has_no_effect()
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
            raise ValueError(
                f"rows_per_step is {self.rows_per_step} for {self.world_size} processes; expected at least one row each"
            )

    def _check_values(self) -> None:
        """Refuse what would be found out late, and say which way the metric for the best model goes."""
        check_least(
            ("tokens_per_device", self.tokens_per_device, 1),
            ("rows_per_step", self.rows_per_step, 1),
            ("max_length", self.max_length, 1),
            ("shuffle_buffer", self.shuffle_buffer, 1),
            ("seed", self.seed, 0),
            ("early_stopping_patience", self.early_stopping_patience, 1),
            ("data_seed", self.data_seed, 0),
            ("dataset_num_proc", self.dataset_num_proc, 1),
            ("dataloader_num_workers", self.dataloader_num_workers, 0),
            ("pass_overhead", self.pass_overhead, 0),
            ("save_total_limit", self.save_total_limit, 0),
            ("eval_delay", self.eval_delay, 0),
            ("warmup_steps", self.warmup_steps, 0),
            ("weight_decay", self.weight_decay, 0),
            ("max_grad_norm", self.max_grad_norm, 0),
            ("label_smoothing_factor", self.label_smoothing_factor, 0),
            ("adam_beta1", self.adam_beta1, 0),
            ("adam_beta2", self.adam_beta2, 0),
            ("neftune_noise_alpha", self.neftune_noise_alpha, 0),
            ("max_steps", 1 if self.max_steps == -1 else self.max_steps, 1),
        )
        check_above(
            ("learning_rate", self.learning_rate, 0),
            ("num_train_epochs", self.num_train_epochs if self.max_steps == -1 else None, 0),
            ("adam_epsilon", self.adam_epsilon, 0),
            *(
                (f"{what}_steps", getattr(self, f"{what}_steps"), 0)
                for what in ("logging", "eval", "save")
                if getattr(self, f"{what}_strategy") == "steps"
            ),
        )
        check_below(
            ("adam_beta1", self.adam_beta1, 1),
            ("adam_beta2", self.adam_beta2, 1),
            ("label_smoothing_factor", self.label_smoothing_factor, 1),
        )
        if self.early_stopping_patience is not None and self.eval_strategy == "no":
            raise UserError("early_stopping_patience counts evaluations, and eval_strategy is 'no'; set one of the two")
        if self.metric_for_best_model is None:
            return
        # several evaluation datasets: `<dataset>_<metric>`
        name = next((known for known in WATCHED if f"_{self.metric_for_best_model}".endswith(f"_{known}")), None)
        if name is None:
            raise UserError(
                f"metric_for_best_model is {self.metric_for_best_model!r}; expected one of {', '.join(WATCHED)}"
            )
        if self.greater_is_better is None:
            self.greater_is_better = name not in LESS_IS_BETTER

    def _refuse_what_has_no_effect(self) -> None:
        defaults = {item.name: item.default for item in dataclasses.fields(self)}
        given = [name for name in _WITHOUT_EFFECT if getattr(self, name) != defaults[name]]
        if given:
            reasons = "; ".join(f"{name} ({_WITHOUT_EFFECT[name]})" for name in given)
            raise UserError(f"without effect on reward training, remove: {reasons}")
