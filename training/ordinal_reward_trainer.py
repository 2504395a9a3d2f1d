"""Ordinal reward training on top of `transformers.Trainer`.

The Trainer sees one batch for each optimizer step; inside a step the batch is a list of micro-batches cut by tokens
(see `token_budget_sampler`), whose losses are sums over rows divided by the rows of the whole step on all processes.
So a step gives the same gradient whatever the budget, the padding and the number of processes.
"""

import contextlib
import copy
import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, IterableDataset
from torch import nn
from torch.utils.data import DataLoader
from transformers import (
    AutoTokenizer,
    EarlyStoppingCallback,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_utils import EvalLoopOutput

from wildreward.bundled import resolve
from wildreward.errors import UserError
from wildreward.model_card import write_model_card
from wildreward.modeling_wildreward import WildRewardForSequenceClassification
from wildreward.modeling_wildreward.calibration import fit_temperatures
from wildreward.modeling_wildreward.pooling import SECTIONS
from wildreward.modeling_wildreward.template import install_template, response_mark
from wildreward.names import public_name
from wildreward.training.adapters import with_adapters
from wildreward.training.backbone_layers import compile_layers
from wildreward.training.checkpoints import ResumableTrainer, writing
from wildreward.training.launch_checks import refuse_sharded_adapters, use_one_gpu
from wildreward.training.learning_checks import NonFiniteLoss, check_levels
from wildreward.training.ordinal_reward_config import OrdinalRewardConfig
from wildreward.training.precision import keep_float32_beside_bf16
from wildreward.training.reward_collators import RewardCollator
from wildreward.training.reward_data import level_frequencies, prepare_features, usable_rows
from wildreward.training.reward_metrics import REPORTED, reward_metrics, standard_error
from wildreward.training.reward_stream import RepeatedPasses, StreamedSteps, refuse_for_streams
from wildreward.training.reward_weights import sample_weights, threshold_weights
from wildreward.training.token_budget_sampler import StepDataset, TokenBudget, TokenBudgetSampler, seeded_generator
from wildreward.training.weights_check import check_weights

logger = logging.getLogger(__name__)

MODEL_INPUTS = ("input_ids", "attention_mask", "position_ids", "cu_seq_lens_q", "labels", "sample_weights")
FEW_ROWS = 100  # too few to calibrate on
EVALUATION_WINDOW = 512  # rows sorted and cut together when evaluating


class OrdinalRewardTrainer(ResumableTrainer, Trainer):
    """Train a reward model on levels 1..K.

    Args:
        model: the model, or the name of a backbone that gets a fresh head (with the level frequencies as its prior).
        args: [`OrdinalRewardConfig`]; by default its defaults, without evaluation where there is no `eval_dataset`.
        train_dataset: rows as `reward_data` describes them, or features it has prepared; `Dataset` or `IterableDataset`.
        eval_dataset: held-out rows, a `Dataset`.
        processing_class: the tokenizer; default: the one of `model` by name. It gets the reward model's template.
        peft_config: train adapters of this `peft` configuration instead of the whole model.
        callbacks, optimizers: see `transformers.Trainer`.

    Raises:
        UserError: rows that cannot be used, naming the first; no rows; rows to train on that all have one label.
        NonFiniteLoss: while training, naming the rows of the step.

    Example:
        ```python
        rows = load_dataset("my-feedback", split="train").train_test_split(0.1, seed=0)
        trainer = OrdinalRewardTrainer(
            model="sentence-transformers/all-MiniLM-L6-v2",
            args=OrdinalRewardConfig(output_dir="reward-model"),
            train_dataset=rows["train"],
            eval_dataset=rows["test"],
        )
        trainer.train()
        ```
    """

    loss_is_scaled_for_ga = True

    def __init__(
        self,
        model: str | nn.Module,
        args: OrdinalRewardConfig | None = None,
        train_dataset: Dataset | IterableDataset | None = None,
        eval_dataset: Dataset | None = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        peft_config: Any = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple = (None, None),
    ) -> None:
        if args is None:
            args = OrdinalRewardConfig("reward-model", **({"eval_strategy": "no"} if eval_dataset is None else {}))
        use_one_gpu(args)
        if peft_config is not None or hasattr(model, "peft_config"):
            refuse_sharded_adapters(args)
        if eval_dataset is None and args.eval_strategy != "no":
            raise UserError("eval_strategy is set but there is no eval_dataset; pass one, or set eval_strategy to 'no'")
        fresh = isinstance(model, str)
        if fresh:
            folder = resolve(model)
            processing_class = processing_class or AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
            model = WildRewardForSequenceClassification.from_backbone(
                folder, max_length=args.max_length, base_model=public_name(model)
            )
        if processing_class is None:
            raise UserError("pass the tokenizer as processing_class when the model is given as an object")
        install_template(processing_class)
        model.config.pad_token_id = processing_class.pad_token_id
        if model.config.pooling == SECTIONS:
            model.config.response_mark = response_mark(processing_class)
        self.reward_config = model.config
        self.max_length = min(args.max_length or model.config.max_length, model.config.max_length)
        model.config.max_length = self.max_length
        self.packed = _packs(model, args.padding_free)
        self.dropped: dict[str, dict[str, int]] = {}
        with args.main_process_first(desc="dataset preparation"):
            self._features(train_dataset, eval_dataset, processing_class, args)
        if fresh and self.train_labels is not None:
            model.score.set_prior(level_frequencies(self.train_labels, model.config.num_levels))
        if args.disable_dropout:
            from trl.trainer.utils import disable_dropout_in_model

            disable_dropout_in_model(model)
        if peft_config is not None:
            model = with_adapters(model, peft_config)
        if args.torch_compile:
            compile_layers(model, args.torch_compile_backend, args.torch_compile_mode)
            args = copy.copy(args)  # nothing is left to compile for accelerate, which would take the whole model
            args.torch_compile, args.torch_compile_backend, args.torch_compile_mode = False, None, None
        super().__init__(
            model=model,
            args=args,
            data_collator=RewardCollator(processing_class.pad_token_id, self.packed),
            train_dataset=self._train_rows,
            eval_dataset=self._eval_rows,
            processing_class=processing_class,
            callbacks=[_EpochOrder(self), *(callbacks or [])],
            optimizers=optimizers,
        )
        self.label_smoother = None  # the ordinal loss has its own
        if torch.bfloat16 in {weight.dtype for weight in model.parameters() if weight.requires_grad}:
            logger.warning(
                "the trained weights are bfloat16: most updates of learning rate %g round to nothing; load the backbone in "
                "float32 (bf16=True computes in bfloat16 all the same), or train adapters",
                args.learning_rate,
            )
        if args.early_stopping_patience is not None:
            self.add_callback(EarlyStoppingCallback(early_stopping_patience=args.early_stopping_patience))

    def _features(
        self,
        train: Dataset | IterableDataset | None,
        held_out: Dataset | None,
        tokenizer: PreTrainedTokenizerBase,
        args: OrdinalRewardConfig,
    ) -> None:
        """Prepare both datasets, and what the loss needs to know about the training labels."""
        levels = self.reward_config.num_levels
        self.train_labels = self.row_weights = self.threshold_weights = None
        self._train_rows, self._eval_rows = train, None

        def prepared(rows: Dataset, name: str) -> Dataset:
            features = prepare_features(rows, tokenizer, self.max_length, levels, args.dataset_num_proc)
            features, self.dropped[name] = usable_rows(features, args.keep_cut_responses)
            return features

        if isinstance(train, IterableDataset):
            refuse_for_streams(args)
            self._train_rows = StreamedSteps(
                train, tokenizer, self.max_length, levels, args, TokenBudget(*self._budget(args))
            )
        elif train is not None:
            self._train_rows = prepared(train, "train")
            plain = self._train_rows.with_format("numpy")
            self.train_labels, confidences = plain["label"][:], plain["confidence"][:]
            check_levels(self.train_labels, levels)
            self.row_weights = sample_weights(
                self.train_labels, confidences, levels, args.level_weighting, args.use_confidence
            )
            self.threshold_weights = threshold_weights(self.train_labels, levels, args.threshold_weighting)
        if held_out is not None:
            self._eval_rows = prepared(held_out, "validation")

    def _budget(self, args: OrdinalRewardConfig) -> tuple[int, bool, int]:
        return args.tokens_per_device, self.packed, args.pass_overhead

    def create_accelerator_and_postprocess(self) -> None:
        """As in Trainer, with another precision under FSDP2."""
        super().create_accelerator_and_postprocess()
        keep_float32_beside_bf16(self.accelerator)

    # ---- batches

    def get_train_dataloader(self) -> DataLoader:
        """Steps of micro-batches in this process's share; see the module's first lines."""
        if isinstance(self.train_dataset, StreamedSteps):
            passes, workers = RepeatedPasses(self.train_dataset), min(1, self._workers())
            return DataLoader(passes, batch_size=None, collate_fn=self.data_collator, num_workers=workers)
        self.train_sampler = self._sampler(self.train_dataset, self.args.rows_per_step, shuffle=True)
        return self._loader(self.train_dataset, self.train_sampler, self.row_weights)

    def get_eval_dataloader(self, eval_dataset: str | Dataset | None = None) -> DataLoader:
        """Held-out rows by length, cut by tokens like the training steps."""
        if isinstance(eval_dataset, str):
            eval_dataset = self.eval_dataset[eval_dataset]
        rows = self.eval_dataset if eval_dataset is None else eval_dataset
        if "input_ids" not in rows.column_names:
            rows = prepare_features(rows, self.processing_class, self.max_length, self.reward_config.num_levels)
            rows, _ = usable_rows(rows, self.args.keep_cut_responses)
        window = EVALUATION_WINDOW * self.args.world_size
        return self._loader(rows, self._sampler(rows, window, shuffle=False), None)

    def get_test_dataloader(self, test_dataset: Dataset) -> DataLoader:
        """The same as for evaluation."""
        return self.get_eval_dataloader(test_dataset)

    def _sampler(self, rows: Dataset, rows_per_step: int, shuffle: bool) -> TokenBudgetSampler:
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return TokenBudgetSampler(
            rows.with_format("numpy")["length"][:],
            rows_per_step,
            TokenBudget(*self._budget(self.args)),
            rank=self.args.process_index,
            world_size=self.args.world_size,
            seed=seed,
            shuffle=shuffle,
        )

    def _loader(self, rows: Dataset, sampler: TokenBudgetSampler, weights: np.ndarray | None) -> DataLoader:
        return DataLoader(
            StepDataset(rows.with_format(None), weights),
            batch_sampler=sampler,
            collate_fn=self.data_collator,
            num_workers=self._workers(),
            pin_memory=self.args.dataloader_pin_memory and torch.cuda.is_available(),
            generator=seeded_generator(self.args.seed),
        )

    def _workers(self) -> int:
        return self.args.dataloader_num_workers

    # ---- the step

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Forward and backward over the step's micro-batches; gradients are exchanged with the last one only (FSDP: each)."""
        micro_batches = inputs["micro_batches"]
        losses = []
        for turn, batch in enumerate(micro_batches):
            last = turn == len(micro_batches) - 1
            self.accelerator.gradient_state._set_sync_gradients(last)
            # FSDP exchanges after each pass: otherwise every process would hold the whole gradient until the last
            exchanged = last or self.is_fsdp_enabled
            with contextlib.nullcontext() if exchanged else self.accelerator.no_sync(model=model):
                losses.append(super().training_step(model, self._inputs(batch), num_items_in_batch))
        losses = torch.stack(losses)
        total = losses.sum()
        if not bool(total.isfinite()):
            bad = [batch for batch, loss in zip(micro_batches, losses, strict=True) if not loss.isfinite()]
            raise NonFiniteLoss(self._refusal(f"the loss is {float(total)}", bad or micro_batches))
        self._step_ids = micro_batches
        return total

    def _get_grad_norm(self, model: nn.Module, grad_norm: torch.Tensor | None = None) -> torch.Tensor | float | None:
        # Trainer asks for it before each update, whether gradients are clipped or not
        norm = super()._get_grad_norm(model, grad_norm)
        # with fp16 the loss scaler skips such steps by itself
        if norm is not None and not self.args.fp16 and not math.isfinite(float(norm)):
            raise NonFiniteLoss(self._refusal(f"the gradient's norm is {float(norm)}", self._step_ids))
        return norm

    def _refusal(self, what: str, micro_batches: Sequence[dict[str, Any]]) -> str:
        ids = [row for batch in micro_batches for row in batch["ids"]]
        more = f" and {len(ids) - 20} more" if len(ids) > 20 else ""
        # DeepSpeed makes its update at the end of the backward pass, before the loss and the norm can be looked at
        update = "the update was not saved" if self.is_deepspeed_enabled else "no update was made"
        return (
            f"{what} at step {self.state.global_step + 1}, with the rows {', '.join(ids[:20])}{more}; {update} and the last "
            "checkpoint is intact: lower the learning rate, or leave these rows out"
        )

    def _inputs(self, batch: dict[str, Any]) -> dict[str, Any]:
        """What the model gets of a micro-batch."""
        inputs = {name: batch[name] for name in MODEL_INPUTS if name in batch}
        inputs["label_smoothing"] = self.args.label_smoothing_factor
        if self.threshold_weights is not None:
            inputs["threshold_weights"] = torch.tensor(self.threshold_weights)
        return inputs

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Forward and backward operations of a step: 6 for each weight and token, embeddings left out."""
        if not hasattr(self, "_dense_weights"):
            self._dense_weights = self.model.num_parameters(exclude_embeddings=True)
        tokens = sum(batch["input_ids"].numel() for batch in inputs["micro_batches"])
        return 6 * self._dense_weights * tokens

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if not self.is_fsdp_enabled:  # which has files of its own
            check_weights(Path(resume_from_checkpoint), model or self.model)
        super()._load_from_checkpoint(resume_from_checkpoint, model)

    # ---- evaluation

    def evaluation_loop(
        self,
        dataloader: DataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Threshold logits of all rows from all processes, and the metrics of them."""
        model = self.model_wrapped if self.is_in_train else self.model
        model = model if self.is_in_train else self.accelerator.prepare_model(model, evaluation_mode=True)
        model.eval()
        rows, logits, labels, losses = [], [], [], []
        with torch.no_grad():
            for batch in self._micro_batches(dataloader):
                output = model(**self._prepare_inputs(self._inputs(batch)))
                counted = batch["sample_weights"] > 0
                rows.append(batch["rows"][counted])
                logits.append(output.threshold_logits.float().cpu()[counted])
                labels.append(batch["labels"][counted])
                losses.append(output.loss.float().cpu() * int(counted.sum()))
                self.control = self.callback_handler.on_prediction_step(self.args, self.state, self.control)
        parts = [torch.cat(rows), torch.cat(logits), torch.cat(labels), torch.stack(losses).sum().reshape(1)]
        if self.args.world_size > 1:
            gathered: list = [None] * self.args.world_size
            torch.distributed.all_gather_object(gathered, [part.numpy() for part in parts])
            parts = [torch.cat([torch.from_numpy(p[i]) for p in gathered]) for i in range(4)]
        order = parts[0].argsort()
        logits, labels = parts[1][order], parts[2][order]
        if not bool(logits.isfinite().all()):
            bad = parts[0][order][~logits.isfinite().all(dim=1)].tolist()
            raise NonFiniteLoss(f"the model gives NaN or infinite logits for the evaluation rows {bad[:20]}")
        metrics = {"loss": float(parts[3].sum() / len(labels))}
        metrics |= reward_metrics(logits, labels, self.reward_config.head, self.reward_config.temperatures)
        watched = (self.args.metric_for_best_model or "").removeprefix("eval_")
        self._error = 0.0
        if self.is_in_train and self.args.load_best_model_at_end and watched in metrics and watched != "loss":
            self._error = standard_error(watched, logits, labels, self.reward_config.head)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
        return EvalLoopOutput(logits.numpy(), labels.numpy(), metrics, len(labels))

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """The best checkpoint is the latest whose value is below the best one by no more than its own standard error
        (which is not known of the loss, nor with several evaluation datasets: there the best value decides).

        On a few hundred held-out rows the largest of several values is mostly chance, while a later checkpoint has seen
        more rows and comes with a smaller learning rate.
        """
        name = f"eval_{(self.args.metric_for_best_model or '').removeprefix('eval_')}"
        undefined = name.removeprefix("eval_") in (*REPORTED, "ece") and name not in metrics
        if undefined:  # such as roc_auc where the held-out rows have one level only
            logger.warning("%s is undefined on the held-out rows: this checkpoint cannot be the best", name)
            return False
        better = super()._determine_best_metric(metrics, trial)
        if not better and name in metrics and abs(metrics[name] - self.state.best_metric) <= self._error:
            self.state.best_global_step = self.state.global_step
            return True
        return better

    @staticmethod
    def _micro_batches(dataloader: DataLoader) -> Iterator[dict[str, Any]]:
        for step in dataloader:
            yield from step["micro_batches"]

    def calibrate(self, dataset: Dataset | None = None) -> dict[str, float]:
        """Fit one temperature for each threshold on held-out rows and put them into the model's configuration.

        Returns:
            Metrics of these rows with the temperatures fitted on them, named `eval_…`; that makes `eval_ece` a little
            too good.
        """
        output = self.predict(self.eval_dataset if dataset is None else dataset, metric_key_prefix="eval")
        logits, labels = torch.from_numpy(output.predictions), torch.from_numpy(output.label_ids)
        if len(labels) < FEW_ROWS:
            logger.warning(
                "the temperatures are fitted on %d rows only: do not trust the level probabilities much", len(labels)
            )
        head = self.reward_config.head
        self.reward_config.temperatures = fit_temperatures(logits, labels, head)
        calibrated = reward_metrics(logits, labels, head, self.reward_config.temperatures)
        metrics = output.metrics | {f"eval_{name}": value for name, value in calibrated.items()}
        self.log(metrics)
        return metrics

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write the package's own card; `push_to_hub` calls this before it uploads."""
        if self.is_world_process_zero():
            write_model_card(self.args.output_dir, self.hub_model_id)

    def save_reward_model(self, folder: str) -> None:
        """Write the finished model and its tokenizer, adapters merged; call it on every process."""
        model = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        state = None
        if hasattr(model, "merge_and_unload"):  # its weights are whole on each process, see `refuse_sharded_adapters`
            model = model.merge_and_unload()
        elif self.is_fsdp_enabled or self.is_deepspeed_enabled:
            state = self.accelerator.get_state_dict(self.model_wrapped)
        if self.args.should_save:
            with writing(folder):
                model.save_pretrained(folder, state_dict=state)
                self.processing_class.save_pretrained(folder)


class _EpochOrder(TrainerCallback):
    """Tells the sampler which epoch begins; a resumed run has to begin in the middle of one."""

    def __init__(self, trainer: OrdinalRewardTrainer) -> None:
        self.trainer = trainer

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        sampler = getattr(self.trainer, "train_sampler", None)
        if sampler is not None:  # a stream counts its passes itself
            sampler.set_epoch(int(state.epoch or 0))


def _packs(model: nn.Module, padding_free: str) -> bool:
    if padding_free == "on" and not model.supports_packing:
        raise UserError(
            "padding_free is on, but this model's attention cannot keep packed rows apart; "
            "use a decoder or flash attention, or set padding_free to auto"
        )
    flash = "flash" in (model.model.config._attn_implementation or "")
    return padding_free == "on" or (padding_free == "auto" and flash and model.supports_packing)
