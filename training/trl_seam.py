"""The seam to TRL: everything of it that is not public and that best-of-n DPO relies on is used here only.

`RLOOTrainer` samples several completions per prompt (transformers or vLLM, colocated or server), calls the reward
functions, holds the reference model and buffers rollouts for gradient accumulation. This class keeps all that, and
replaces what follows the rewards. tests/training/test_trl_seam.py fails when TRL changes one of these parts.
"""

import logging
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object, is_peft_model, set_seed
from datasets import Dataset
from torch import nn
from torch.utils.data import Sampler
from transformers import TrainerCallback, TrainerState, TrainingArguments
from trl import RLOOTrainer
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.utils import (
    get_config_model_id,
    is_async_callable,
    nanmax,
    nanmin,
    nanstd,
    pad,
    use_adapter,
)

from wildreward.scoring.protocol import RewardSourceError
from wildreward.training.resume import ExactResumeMixin

# What a reward function may raise when its source is gone: the errors of sockets, urllib and requests are OSErrors.
SOURCE_FAILURES = (RewardSourceError, OSError)


@dataclass
class Rollout:
    """Completions of this process, `per_prompt` in a row for each prompt, and the rewards of all processes."""

    prompts: list
    prompt_ids: list[list[int]]
    completions: list
    completion_ids: list[list[int]]
    rewards: torch.Tensor
    """(rows of all processes, reward functions), NaN where a function could not score."""
    per_prompt: int

    def local(self, values: torch.Tensor, process_index: int) -> torch.Tensor:
        """The part of a gathered tensor that belongs to this process."""
        rows = len(self.prompts)
        return values[process_index * rows : (process_index + 1) * rows]


class RolloutTrainer(ExactResumeMixin, RLOOTrainer):
    """RLOO's rollouts without RLOO's loss. Subclasses implement `compute_loss` and `batch_from_rollout`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._failures: list[str] = []
        self._seconds: dict[str, float] = defaultdict(float)
        self._random_state: dict[str, Any] = _random_state()
        self._step_of_last_log = 0
        self.add_callback(_Randomness(self))
        self.reward_funcs = [f if isinstance(f, nn.Module) else self._guarded(f) for f in self.reward_funcs]

    def batch_from_rollout(self, rollout: Rollout) -> dict[str, torch.Tensor]:
        """Turn completions with rewards into tensors, one row a pair; TRL shuffles and splits rows for accumulation."""
        raise NotImplementedError

    # Rollout

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        return self.batch_from_rollout(self.roll_out(inputs))

    def roll_out(self, inputs: list[dict[str, Any]]) -> Rollout:
        """Generate and score.

        Raises:
            RewardSourceError: on every process, when the rewards of any cannot be had, or all are missing.
        """
        prompts = [row["prompt"] for row in inputs]
        # TRL generates in the weights' own precision; when training computes in bfloat16 on a CPU, so should generation
        on_cpu = self.accelerator.device.type == "cpu"
        with self.timed("generation"), self.accelerator.autocast() if on_cpu else nullcontext():
            prompt_ids, completion_ids, completions = self._generate(prompts)
        with self.timed("scoring"):
            rewards = self._calculate_rewards(inputs, prompts, completions, completion_ids)
        per_prompt = self.num_generations if self.model.training else self.num_generations_eval
        _assert_grouped(prompt_ids, per_prompt)
        for i, name in enumerate(self.reward_func_names):
            self.record(f"rewards/{name}/mean", rewards[:, i].nanmean())
            self.record(f"rewards/{name}/std", nanstd(rewards[:, i]))
        return Rollout(prompts, prompt_ids, completions, completion_ids, rewards, per_prompt)

    def _calculate_rewards(self, inputs: list, prompts: list, completions: list, completion_ids: list) -> torch.Tensor:
        self._failures.clear()
        with _without_chat_text_in_log():
            rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids)
        # A process whose source failed has handed in NaN, so that no other waits for it; now all stop together.
        failures = gather_object(list(self._failures))
        if failures:
            raise RewardSourceError(failures[0])
        if rewards.isinf().any():
            row = int(rewards.isinf().any(dim=1).nonzero()[0])
            raise RewardSourceError(f"infinite reward for completion {row} of {len(rewards)} at {self.where()}")
        if rewards.isnan().all():
            raise RewardSourceError(
                f"no reward for any of {len(rewards)} completions at {self.where()}; expected at least some: check "
                "what the reward functions return"
            )
        return rewards

    def _guarded(self, function: Callable) -> Callable:
        """Keep a failure for later, see `_calculate_rewards`."""

        def failed(error: Exception, prompts: list) -> list[None]:
            self._failures.append(str(error) or type(error).__name__)
            return [None] * len(prompts)

        async def asynchronous(prompts: list, **kwargs: Any) -> list[float | None]:
            try:
                return await function(prompts=prompts, **kwargs)
            except SOURCE_FAILURES as error:
                return failed(error, prompts)

        def synchronous(prompts: list, **kwargs: Any) -> list[float | None]:
            try:
                return function(prompts=prompts, **kwargs)
            except SOURCE_FAILURES as error:
                return failed(error, prompts)

        return asynchronous if is_async_callable(function) else synchronous

    def pad_rows(self, rows: list[list[int]], side: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids (N, L), filled up on one side, and their mask."""
        ids = [torch.tensor(row) for row in rows]
        options = {"padding_side": side, "pad_to_multiple_of": self.pad_to_multiple_of}
        padded = (
            pad(ids, self._tokenizer.pad_token_id, **options),
            pad([torch.ones_like(row) for row in ids], 0, **options),
        )
        return tuple(part.to(self.accelerator.device) for part in padded)

    def truncated(self, rollout: Rollout) -> torch.Tensor:
        """(local rows,) bool: completions that ended for want of room."""
        ends = {*self.eos_token_ids, self._tokenizer.pad_token_id}
        return torch.tensor([ids[-1] not in ends for ids in rollout.completion_ids], device=self.accelerator.device)

    # Log-probabilities

    def completion_logps(
        self, model: nn.Module, input_ids: torch.Tensor, attention_mask: torch.Tensor, length: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Log-probability and entropy, (B, length), of the last `length` tokens, and the router loss if it is used."""
        more = {"compute_entropy": True, "compute_aux_loss": self.aux_loss_enabled}
        return self._get_per_token_logps_and_entropies(model, input_ids, attention_mask, length, **more)

    @torch.no_grad()
    def reference_logps(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, length: int, batch_size: int
    ) -> torch.Tensor:
        """(B, length) log-probabilities under the reference: the frozen copy, or the model without its adapter."""
        arguments = (input_ids, attention_mask, length, batch_size)
        if self.ref_model is not None:
            return self._get_per_token_logps_and_entropies(self.ref_model, *arguments)[0]
        model = self.accelerator.unwrap_model(self.model)
        adapter = "ref" if is_peft_model(model) and "ref" in model.peft_config else None
        with (
            disable_gradient_checkpointing(self.model, self.args.gradient_checkpointing_kwargs),
            use_adapter(model, adapter_name=adapter),
        ):
            return self._get_per_token_logps_and_entropies(self.model, *arguments)[0]

    def with_router_loss(self, loss: torch.Tensor, router_loss: torch.Tensor | None) -> torch.Tensor:
        """Add the router loss of a mixture of experts, where it is asked for."""
        if not self.aux_loss_enabled:
            return loss
        self.record("aux_loss", self.accelerator.gather(router_loss.detach()).mean())
        return loss + self.router_aux_loss_coef * router_loss

    def accumulation_window(self) -> list[dict[str, torch.Tensor]]:
        """The batches of the running optimizer step, this process's part."""
        steps = self.current_gradient_accumulation_steps
        position = self._step % self.args.steps_per_generation
        first = position - position % steps
        return self._buffered_inputs[first : first + steps]

    # Held-out prompts

    @torch.no_grad()
    def sample_rows(self, prompts: Dataset, seed: int, read: Callable[[Rollout, list[dict]], list[dict]]) -> list[dict]:
        """Sample completions for each of `prompts` from a fixed seed, without a trace in training's randomness.

        Args:
            prompts: rows with `prompt`; they get a `prompt_index` that tells them apart.
            seed: of the sampling.
            read: what to keep of a rollout: one dict with `prompt_index` for each prompt.

        Returns:
            What `read` kept on all processes, once for each prompt, in the order of `prompt_index`.
        """
        dataset = prompts.add_column("prompt_index", list(range(len(prompts))))
        training, state = self.model.training, _random_state()
        kept = self._metrics["eval"], dict(self._seconds)
        self._metrics["eval"] = defaultdict(list)
        set_seed(seed, device_specific=True)
        self.model.eval()
        try:
            rows = [row for inputs in self.get_eval_dataloader(dataset) for row in read(self.roll_out(inputs), inputs)]
        finally:
            self.model.train(training)
            _set_random_state(state)
            self._metrics["eval"], self._seconds = kept[0], defaultdict(float, kept[1])
            self._pending_extra_logs.clear()
            self._pending_metrics.clear()
        unique = {row["prompt_index"]: row for row in gather_object(rows)}
        return [unique[index] for index in sorted(unique)]

    # Records

    def record(self, name: str, value: torch.Tensor | float) -> None:
        """Log a number; the mean since the last log is reported, NaN left out."""
        self._metrics[self.mode()][name].append(float(value))

    def record_completions(self, rollout: Rollout, columns: dict[str, list], advantages: torch.Tensor) -> None:
        """Put this rollout in TRL's table of completions and flush what reward functions logged."""
        if self.log_completions:
            for name in ("prompt", "completion"):
                self._logs[name].extend(gather_object(getattr(rollout, f"{name}s")))
            for i, name in enumerate(self.reward_func_names):
                self._logs["rewards"][name].extend(rollout.rewards[:, i].tolist())
            self._logs["advantages"].extend(self.accelerator.gather(advantages).tolist())
            # sorted, so that all processes exchange the same column at a time
            columns = {**self._pending_extra_logs, **columns}
            for name in sorted(set(gather_object(list(columns)))):
                values = columns.get(name, [None] * len(rollout.prompts))
                self._logs["extra"][name].extend(gather_object(values))
        for name in sorted(set(gather_object(list(self._pending_metrics)))):
            values = [v for part in gather_object([self._pending_metrics.get(name, [])]) for v in part]
            self.record(name, float(np.mean(values)))
        self._pending_extra_logs.clear()
        self._pending_metrics.clear()

    def record_rewards(self, rewards: torch.Tensor) -> None:
        """Log what all completions got, (rows of all processes,)."""
        self.record("reward", rewards.nanmean())
        for name, statistic in (("std", nanstd), ("max", nanmax), ("min", nanmin)):
            self.record(f"reward_{name}", statistic(rewards))

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time inside to the seconds of `stage`."""
        started = time.perf_counter()
        yield
        self._seconds[stage] += time.perf_counter() - started

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        before, started = sum(self._seconds.values()), time.perf_counter()
        loss = super().training_step(*args, **kwargs)
        rollout = sum(self._seconds.values()) - before
        self._seconds["training"] += time.perf_counter() - started - rollout
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        steps = self.state.global_step - self._step_of_last_log
        if self.model.training and steps > 0:
            for stage, seconds in self._seconds.items():
                self.record(f"time/{stage}", seconds / steps)
            self._seconds.clear()
            self._step_of_last_log = self.state.global_step
        super().log(logs, start_time)

    def mode(self) -> str:
        return "train" if self.model.training else "eval"

    def where(self) -> str:
        return f"step {self.state.global_step}" + ("" if self.model.training else " (evaluation)")

    # Resuming

    def _get_train_sampler(self, dataset: Any = None) -> Sampler:
        """TRL's, which would start over at the first epoch's order when training resumes in a later one; see `_Randomness`."""
        self.prompt_order = super()._get_train_sampler(dataset)
        return self.prompt_order

    def restore_random_state(self) -> None:
        """Go back to the end of the last step, so that a checkpoint made now goes on as if nothing had happened since."""
        _set_random_state(self._random_state)


class _Randomness(TrainerCallback):
    """Keeps the random state as it is when the Trainer would save a checkpoint, and draws each epoch's order of prompts from
    the seed and the epoch alone."""

    def __init__(self, trainer: RolloutTrainer) -> None:
        self.trainer = trainer

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: Any, **kwargs: Any) -> None:
        if args.shuffle_dataset:
            self.trainer.prompt_order.generator.manual_seed(args.seed + int(state.epoch or 0))

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.trainer._random_state = _random_state()

    on_evaluate = on_step_end


def name_of(model: str | nn.Module) -> str | None:
    """The folder or Hub id that a model was loaded from; None or empty of one made in memory."""
    return model if isinstance(model, str) else get_config_model_id(model.config)


def _assert_grouped(prompt_ids: list[list[int]], per_prompt: int) -> None:
    """Pairs must never mix prompts: every `per_prompt` rows in a run have the same prompt, to the token."""
    for start in range(0, len(prompt_ids), per_prompt):
        group = prompt_ids[start : start + per_prompt]
        if len(group) < per_prompt or any(ids != group[0] for ids in group):
            raise AssertionError(
                f"rows {start} to {start + len(group) - 1} of {len(prompt_ids)} should be {per_prompt} completions of one "
                "prompt and are not; the completions were reordered, or a batch does not hold whole groups"
            )


@contextmanager
def _without_chat_text_in_log() -> Iterator[None]:
    """TRL warns about rows without a reward by writing out the conversation; chat text has no place in a log."""

    def keep(record: logging.LogRecord) -> bool:
        return "All reward functions returned None" not in record.getMessage()

    logger = logging.getLogger(RLOOTrainer.__module__)
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)


def _random_state() -> dict[str, Any]:
    state = {"python": random.getstate(), "numpy": np.random.get_state(), "cpu": torch.get_rng_state()}
    return state | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})


def _set_random_state(state: dict[str, Any]) -> None:
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["cpu"])
    if "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"])
