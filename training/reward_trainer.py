"""Ordinal reward training on top of `transformers.Trainer`.

The Trainer sees one batch for each optimizer step; inside a step the batch is a list of micro-batches cut by tokens
(see `reward_batching`), whose losses are sums over rows divided by the rows of the whole step on all processes.
So a step gives the same gradient whatever the budget, the padding and the number of processes.
"""

import contextlib
import copy
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, IterableDataset
from torch import nn
from torch.utils.data import DataLoader
from transformers import (
    EarlyStoppingCallback,
    PreTrainedTokenizerBase,
    TrainerCallback,
)
from trl.trainer.utils import disable_dropout_in_model

from wildreward.common.errors import UserError
from wildreward.model_card import write_model_card
from wildreward.training.model_setup import (
    add_adapters,
    build_model,
    check_launch,
    compile_layers,
    connect_tokenizer,
    keep_float32_beside_bf16,
    warn_of_bfloat16_weights,
)
from wildreward.training.resume import ExactResumeMixin, NonFiniteLoss, check_weights, writing
from wildreward.training.reward_arguments import TrainRewardArguments
from wildreward.training.reward_batching import (
    RewardCollator,
    StepDataset,
    TokenBudget,
    TokenBudgetSampler,
    level_frequencies,
    sample_weights,
    threshold_weights,
)
from wildreward.training.reward_config import OrdinalRewardConfig
from wildreward.training.reward_data import FEATURES, prepare_rows
from wildreward.training.reward_evaluation import NAMED_ROWS, EvaluatingTrainer
from wildreward.training.reward_pairs import latent_score, pair_lengths, pair_losses, pairs_won, prepare_pairs
from wildreward.training.reward_stream import StreamedSteps

logger = logging.getLogger(__name__)

EVALUATION_WINDOW = 512  # rows sorted and cut together when evaluating


class OrdinalRewardTrainer(ExactResumeMixin, EvaluatingTrainer):
    """Train a reward model on levels 1..K, and on preference pairs beside them.

    The loss is that on levels plus `pair_weight` times that on pairs (`reward_pairs.pair_losses`), each the mean over its
    rows or pairs in the step. A step takes pairs so that all are seen once an epoch (of a stream: in `max_steps`).

    Args:
        model: the model, or the name of a finished one, or of a backbone that gets a fresh head (with the level frequencies
            as its prior).
        args: [`OrdinalRewardConfig`]; by default its defaults, without evaluation where there is no `eval_dataset`.
        train_dataset: rows as `reward_data` describes them, or features it has prepared; `Dataset` or `IterableDataset`.
        eval_dataset: held-out rows, a `Dataset`.
        train_pairs: `Dataset` of pairs in TRL's preference formats (`prompt`, `chosen`, `rejected`; optional `margin` and
            `tie`), or features that `reward_pairs` has prepared. Without a `train_dataset` they alone are trained on.
        eval_pairs: held-out pairs, evaluated with `eval_dataset`.
        processing_class: the tokenizer; default: the one of `model` by name. It gets the reward model's template.
        peft_config: train adapters of this `peft` configuration instead of the whole model.
        callbacks, optimizers: see `transformers.Trainer`.

    Raises:
        UserError: rows that cannot be used, naming the first; no rows; rows to train on that all have one label.
        NonFiniteLoss: while training, naming the rows of the step.

    Examples:
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
        train_pairs: Dataset | None = None,
        eval_pairs: Dataset | None = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        peft_config: Any = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple = (None, None),
    ) -> None:
        if args is None:
            args = OrdinalRewardConfig("reward-model", **({"eval_strategy": "no"} if eval_dataset is None else {}))
        check_launch(args, adapters=peft_config is not None or hasattr(model, "peft_config"))
        if eval_pairs is not None and eval_dataset is None:
            raise UserError("eval_pairs are evaluated beside rows with a level; pass an eval_dataset, too")
        if eval_dataset is None and args.eval_strategy != "no":
            raise UserError("eval_strategy is set but there is no eval_dataset; pass one, or set eval_strategy to 'no'")
        fresh = isinstance(model, str)
        if fresh:
            what = TrainRewardArguments(dataset="", base_model=model)
            model, tokenizer, fresh = build_model(what, args.max_length, args.seed)
            processing_class = processing_class or tokenizer
        if processing_class is None:
            raise UserError("pass the tokenizer as processing_class when the model is given as an object")
        connect_tokenizer(model, processing_class)
        self.reward_config = model.config
        model.config.max_length = min(args.max_length or model.config.max_length, model.config.max_length)
        self.packed = _packs(model, args.padding_free)
        self.budget = TokenBudget(args.tokens_per_device, self.packed, args.pass_overhead)
        self.row_weights = self.threshold_weights = None
        with args.main_process_first(desc="dataset preparation"):
            self.train_pairs = self._prepared_pairs(train_pairs, processing_class, args, model)
            self.eval_pairs = self._prepared_pairs(eval_pairs, processing_class, args, model)
            if isinstance(train_dataset, IterableDataset):
                shape = (model.config.max_length, model.config.num_levels)
                train_dataset = StreamedSteps(
                    train_dataset, processing_class, *shape, args, self.budget, self.train_pairs
                )
            elif train_dataset is None and train_pairs is not None:
                train_dataset = Dataset.from_dict({name: [] for name in FEATURES}, features=FEATURES)
            elif train_dataset is not None:
                train_dataset = self._prepared(train_dataset, processing_class, args)
                self._weigh(train_dataset, args)
                if fresh:
                    model.score.set_prior(level_frequencies(train_dataset["label"][:], model.config.num_levels))
            if eval_dataset is not None:
                eval_dataset = self._prepared(eval_dataset, processing_class, args)
        if args.disable_dropout:
            disable_dropout_in_model(model)
        if peft_config is not None:
            model = add_adapters(model, peft_config)
        if args.torch_compile:
            compile_layers(model, args.torch_compile_backend, args.torch_compile_mode)
            args = copy.copy(args)  # nothing is left to compile for accelerate, which would take the whole model
            args.torch_compile, args.torch_compile_backend, args.torch_compile_mode = False, None, None
        super().__init__(
            model=model,
            args=args,
            data_collator=RewardCollator(processing_class.pad_token_id, self.packed),
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            callbacks=callbacks,
            optimizers=optimizers,
        )
        self.label_smoother = None  # the ordinal loss has its own
        self._pair_sums = torch.zeros(3, device=args.device)  # since the last log: losses, pairs won, pairs
        warn_of_bfloat16_weights(model, args.learning_rate)
        if args.early_stopping_patience is not None:
            self.add_callback(EarlyStoppingCallback(early_stopping_patience=args.early_stopping_patience))

    def _prepared(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase, args: OrdinalRewardConfig) -> Dataset:
        shape = (self.reward_config.max_length, self.reward_config.num_levels)
        more = (args.keep_cut_responses, args.dataset_num_proc, args.keep_reasoning)
        return prepare_rows(rows, tokenizer, *shape, *more)[0]

    def _prepared_pairs(
        self, pairs: Dataset | None, tokenizer: PreTrainedTokenizerBase, args: OrdinalRewardConfig, model: nn.Module
    ) -> Dataset | None:
        if pairs is None:
            return None
        prepared = prepare_pairs(pairs, tokenizer, self.reward_config.max_length, *args.pair_preparation)[0]
        return prepared if self.packed and _shares_prefixes(model) else prepared.remove_columns("shared")

    def _weigh(self, rows: Dataset, args: OrdinalRewardConfig) -> None:
        """Weigh rows and thresholds by the training labels, and refuse rows that all have one label: the model would learn to
        give every answer that one."""
        plain, levels = rows.with_format("numpy"), self.reward_config.num_levels
        labels = plain["label"][:]
        if len(found := np.unique(labels)) == 1:
            raise UserError(
                f"all {len(labels)} rows to train on have label {found[0]}, so there is no difference to learn; expected rows "
                f"with at least two of the labels 1 to {levels}"
            )
        confidences = plain["confidence"][:]
        self.row_weights = sample_weights(labels, confidences, levels, args.level_weighting, args.use_confidence)
        self.threshold_weights = threshold_weights(labels, levels, args.threshold_weighting)

    def create_accelerator_and_postprocess(self) -> None:
        """As in Trainer, with another precision under FSDP2."""
        super().create_accelerator_and_postprocess()
        keep_float32_beside_bf16(self.accelerator)

    # ---- batches

    def get_train_dataloader(self) -> DataLoader:
        """Steps of micro-batches in this process's share; see the module's first lines."""
        if isinstance(self.train_dataset, StreamedSteps):
            workers = min(1, self.args.dataloader_num_workers)
            return DataLoader(self.train_dataset, batch_size=None, collate_fn=self.data_collator, num_workers=workers)
        step = self.args.rows_per_step
        return self._loader(self.train_dataset, step, self.row_weights, self.train_pairs, shuffle=True)

    def get_eval_dataloader(self, eval_dataset: Dataset | None = None) -> DataLoader:
        """Held-out rows by length, cut by tokens like the training steps."""
        rows = self.eval_dataset if eval_dataset is None else eval_dataset
        rows = self._prepared(rows, self.processing_class, self.args)
        return self._loader(rows, EVALUATION_WINDOW * self.args.world_size, None, self.eval_pairs, shuffle=False)

    get_test_dataloader = get_eval_dataloader

    def _loader(
        self, rows: Dataset, rows_per_step: int, weights: np.ndarray | None, pairs: Dataset | None, shuffle: bool
    ) -> DataLoader:
        sampler = TokenBudgetSampler(
            rows.with_format("numpy")["length"][:],
            rows_per_step,
            self.budget,
            pair_lengths=None if pairs is None else pair_lengths(pairs),
            rank=self.args.process_index,
            world_size=self.args.world_size,
            seed=self.args.order_seed,
            shuffle=shuffle,
        )
        loader = DataLoader(
            StepDataset(rows, weights, pairs),
            batch_sampler=sampler,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory and torch.cuda.is_available(),
            # starting workers must not draw from the global generator
            generator=torch.Generator().manual_seed(self.args.seed),
        )
        loader.set_epoch = sampler.set_epoch  # which the Trainer calls
        return loader

    # ---- the step

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Forward and backward over the step's micro-batches; gradients are exchanged with the last one only (FSDP: each)."""
        micro_batches = inputs["micro_batches"]
        pairs, losses = self._pairs_in_step(micro_batches), []
        for turn, batch in enumerate(micro_batches):
            last = turn == len(micro_batches) - 1
            self.accelerator.gradient_state._set_sync_gradients(last)
            # FSDP exchanges after each pass: otherwise every process would hold the whole gradient until the last
            exchanged = last or self.is_fsdp_enabled
            with contextlib.nullcontext() if exchanged else self.accelerator.no_sync(model=model):
                given = self._inputs(batch) | (
                    {} if pairs is None else {"pairs": (batch["chosen"], batch["margins"], pairs)}
                )
                losses.append(super().training_step(model, given, num_items_in_batch))
        losses = torch.stack(losses)
        total = losses.sum()
        if not bool(total.isfinite()):
            bad = [batch for batch, loss in zip(micro_batches, losses, strict=True) if not loss.isfinite()]
            raise self._not_finite(f"the loss is {float(total)}", bad or micro_batches)
        self._last_step = micro_batches
        return total

    def _pairs_in_step(self, micro_batches: Sequence[dict[str, Any]]) -> torch.Tensor | None:
        """The number of the step's pairs on all processes; None without any to train on."""
        if self.train_pairs is None:
            return None
        here = sum(len(batch["margins"]) for batch in micro_batches)
        return self.accelerator.reduce(torch.tensor(here, device=self.args.device), reduction="sum")

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """The ordinal loss's share, and the pairwise loss's where there are pairs, of a micro-batch in its step."""
        chosen, margins, pairs = inputs.pop("pairs", (None, None, None))
        if pairs is not None:
            num_items_in_batch = num_items_in_batch.clamp(min=1)  # of pairs alone
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        if pairs is not None:
            scores = latent_score(outputs.threshold_logits)
            sides = scores[chosen], scores[chosen + 1]
            losses = pair_losses(*sides, margins)
            # gradients are averaged over processes
            loss = loss + self.args.pair_weight * losses.sum() / pairs.clamp(min=1) * self.args.world_size
            won = pairs_won(*sides).sum()
            self._pair_sums += torch.stack([losses.sum(), won, won.new_tensor(float(len(chosen)))]).detach()
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """As in Trainer, with loss and accuracy on the pairs since the last time."""
        if self.train_pairs is not None and "loss" in logs:
            losses, won, pairs = self.accelerator.reduce(self._pair_sums, reduction="sum").tolist()
            self._pair_sums.zero_()
            logs |= {"pair_loss": losses / pairs, "pair_accuracy": won / pairs} if pairs else {}
        super().log(logs, start_time)

    def _get_grad_norm(self, model: nn.Module, grad_norm: torch.Tensor | None = None) -> torch.Tensor | float | None:
        # Trainer asks for it before each update, whether gradients are clipped or not
        norm = super()._get_grad_norm(model, grad_norm)
        # with fp16 the loss scaler skips such steps by itself
        if norm is not None and not self.args.fp16 and not math.isfinite(float(norm)):
            raise self._not_finite(f"the gradient's norm is {float(norm)}", self._last_step)
        return norm

    def _not_finite(self, what: str, micro_batches: Sequence[dict[str, Any]]) -> NonFiniteLoss:
        ids = [row for batch in micro_batches for row in batch["ids"]]
        more = f" and {len(ids) - NAMED_ROWS} more" if len(ids) > NAMED_ROWS else ""
        # DeepSpeed makes its update at the end of the backward pass, before the loss and the norm can be looked at
        update = "the update was not saved" if self.is_deepspeed_enabled else "no update was made"
        return NonFiniteLoss(
            f"{what} at step {self.state.global_step + 1}, with the rows {', '.join(ids[:NAMED_ROWS])}{more}; {update} and the "
            "last checkpoint is intact: lower the learning rate, or leave these rows out"
        )

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if not self.is_fsdp_enabled:  # which has files of its own
            check_weights(Path(resume_from_checkpoint), model or self.model)
        super()._load_from_checkpoint(resume_from_checkpoint, model)

    # ---- the result

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write the package's own card; `push_to_hub` calls this before it uploads."""
        if self.is_world_process_zero():
            write_model_card(self.args.output_dir, self.hub_model_id)

    def save_reward_model(self, folder: str) -> None:
        """Write the finished model and its tokenizer, adapters merged; call it on every process."""
        model = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        state = None
        if hasattr(model, "merge_and_unload"):  # its weights are whole on each process, see `check_launch`
            model = model.merge_and_unload()
        elif self.is_fsdp_enabled or self.is_deepspeed_enabled:
            state = self.accelerator.get_state_dict(self.model_wrapped)
        if self.args.should_save:
            with writing(folder):
                model.save_pretrained(folder, state_dict=state)
                self.processing_class.save_pretrained(folder)


def _packs(model: nn.Module, padding_free: str) -> bool:
    if padding_free == "on" and not model.supports_packing:
        raise UserError(
            "padding_free is on, but this model's attention cannot keep packed rows apart; "
            "use a decoder or flash attention, or set padding_free to auto"
        )
    flash = "flash" in (model.model.config._attn_implementation or "")
    return padding_free == "on" or (padding_free == "auto" and flash and model.supports_packing)


def _shares_prefixes(model: nn.Module) -> bool:
    """Whether packed rows may share a prefix: each token sees what a mask says, and only the last one is read."""
    config = model.model.config
    windows = set(getattr(config, "layer_types", None) or ()) - {"full_attention"} or getattr(
        config, "sliding_window", None
    )
    return model.config.pooling == "last" and config._attn_implementation == "sdpa" and not windows
