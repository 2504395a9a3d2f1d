"""Online DPO on the best and the worst of n completions sampled from the policy itself."""

import logging
import math
import textwrap
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import nn

from wildreward.common.errors import UserError
from wildreward.common.names import is_url
from wildreward.scoring.protocol import RewardSourceError
from wildreward.scoring.reward_function import RewardFunction
from wildreward.training.dpo_config import BestOfNDPOConfig
from wildreward.training.dpo_report import PairCounts
from wildreward.training.dpo_weaknesses import WEAKNESSES, choosable_under_guard, texts_of, weaknesses
from wildreward.training.model_setup import warn_of_bfloat16_weights
from wildreward.training.pairs import (
    Masked,
    combine_rewards,
    dpo_loss,
    masked_because,
    rows_of_pairs,
    select_pairs,
    text_ids,
)
from wildreward.training.resume import STATE, NonFiniteLoss
from wildreward.training.trl_seam import Rollout, RolloutTrainer, name_of

logger = logging.getLogger(__name__)

# what is summed over the trained pairs, and then over processes, for the log
SUMS = ("pairs", "chosen", "rejected", "correct", "kl", "entropy", "tokens")


class BestOfNDPOTrainer(RolloutTrainer):
    """Per prompt, n completions are sampled and scored; the best and the worst of them make a DPO pair.

    Only those two get a reference and a gradient pass, so a larger n costs generation and scoring, not training. The
    loss is the mean over the pairs of an optimizer step, whatever the number of accumulation steps and processes.

    Args are those of TRL's `RLOOTrainer`; `reward_funcs` also takes the URL of a reward server and `RewardFunction`s.

    >>> trainer = BestOfNDPOTrainer(
    ...     model="HuggingFaceTB/SmolLM2-135M-Instruct",
    ...     reward_funcs=RewardFunction("runs/quickstart/reward-model"),
    ...     args=BestOfNDPOConfig(output_dir="policy"),
    ...     train_dataset=prompts,
    ... )
    >>> trainer.train()

    Raises:
        RewardSourceError: from `train`, when rewards cannot be had; a checkpoint has then been saved.
        NonFiniteLoss: from `train`, when the loss is not finite.
    """

    _tag_names = ["trl", "online-dpo", "wildreward"]
    _name = "Best-of-n online DPO"
    _paper = {
        "title": "Direct Preference Optimization: Your Language Model is Secretly a Reward Model",
        "id": "2305.18290",
        # docstyle-ignore
        "citation": textwrap.dedent("""\
            @inproceedings{rafailov2023direct,
                title     = {{Direct Preference Optimization: Your Language Model is Secretly a Reward Model}},
                author    = {Rafael Rafailov and Archit Sharma and Eric Mitchell and others},
                booktitle = {Advances in Neural Information Processing Systems 36},
                year      = 2023,
            }"""),
    }

    def __init__(
        self,
        model: str | nn.Module,
        reward_funcs: Any,
        args: BestOfNDPOConfig | None = None,
        train_dataset: Any = None,
        **kwargs: Any,
    ) -> None:
        if args is None:
            args = BestOfNDPOConfig(f"{name_of(model).split('/')[-1]}-best-of-n-dpo")
        adapter = kwargs.get("peft_config") is not None or hasattr(model, "peft_config")
        if not adapter and not name_of(model):
            raise ValueError(
                "the model was made in memory: no reference copy can be loaded; save it and pass the folder"
            )
        if {"image", "images"} & set(getattr(train_dataset, "column_names", None) or ()):
            raise ValueError("the dataset has images; best-of-n DPO trains on text only: drop the image columns")
        functions = reward_funcs if isinstance(reward_funcs, list) else [reward_funcs]
        functions = [RewardFunction(f) if isinstance(f, str) and is_url(f) else f for f in functions]
        super().__init__(model=model, reward_funcs=functions, args=args, train_dataset=train_dataset, **kwargs)
        self._warn_about_settings()
        self.add_callback(PairCounts())
        self._sums: dict[str, torch.Tensor] = defaultdict(lambda: torch.zeros(len(SUMS)))

    @property
    def pair_counts(self) -> PairCounts:
        """How many prompts gave a pair so far, and why others did not."""
        return next(one for one in self.callback_handler.callbacks if isinstance(one, PairCounts))

    def _warn_about_settings(self) -> None:
        warn_of_bfloat16_weights(self.model, self.args.learning_rate)
        if self.args.sync_ref_model and self.args.save_strategy != "no":
            logger.warning(
                "checkpoints do not hold the moving reference model: a resumed run starts from the first one"
            )
        steps = self.args.optimizer_steps_per_rollout
        if self.args.save_strategy == "steps" and self.args.save_steps % steps:
            logger.warning(
                "save_steps=%s is not a multiple of the %d steps made with one rollout: resuming samples the rollout anew, so "
                "the curve will differ from that of an undisturbed run",
                self.args.save_steps,
                steps,
            )

    # From completions to pairs

    def batch_from_rollout(self, rollout: Rollout) -> dict[str, torch.Tensor]:
        """Select one pair a prompt and compute its reference log-probabilities, once."""
        with self.timed("selection"):
            rewards = self._group_rewards(rollout)
            (chosen, rejected, keep), reasons = self._select(rollout, rewards)
            if self.model.training:
                self.pair_counts.add(gather_object(reasons), self.args)
            self._record_pairs(rollout, rewards, chosen, rejected, keep)
            batch = self._pad_pairs(rollout, chosen, rejected)
        with self.timed("reference"):
            batch["reference_logps"] = self._reference(batch)
        batch["keep"] = keep
        return batch

    def _group_rewards(self, rollout: Rollout) -> torch.Tensor:
        """(local prompts, per_prompt) combined rewards."""
        weights = self.reward_weights.to(rollout.rewards)
        grouped = rollout.rewards.view(-1, rollout.per_prompt, len(weights))
        rewards = combine_rewards(grouped, weights)
        if self.reward_clip_range:
            rewards = rewards.clamp(*self.reward_clip_range)
        self.record_rewards(rewards.flatten())
        return rollout.local(rewards.flatten(), self.accelerator.process_index).view(-1, rollout.per_prompt)

    def _select(self, rollout: Rollout, rewards: torch.Tensor) -> tuple[tuple, list[Masked | None]]:
        """The local prompts' pairs, see `select_pairs`, and why some prompts give none."""
        what = {
            "choosable": None if self.args.choose_truncated else ~self.truncated(rollout).view_as(rewards),
            "text_ids": text_ids(rollout.completions, rollout.per_prompt).to(rewards.device),
        }
        weak = torch.zeros_like(rewards, dtype=torch.bool)
        if self.args.reward_guard:
            weak = weaknesses(rollout.completions, rollout.per_prompt).any(dim=2).to(rewards.device)
            what["choosable"] = choosable_under_guard(rewards, weak, what["choosable"])
        selected = select_pairs(rewards, self.args.min_margin, **what)
        reasons = masked_because(rewards, selected, **what)
        guarded = zip(reasons, weak.any(dim=1).tolist(), strict=True)
        return selected, [
            Masked.GUARDED if reason == Masked.CUT_OFF and any_weak else reason for reason, any_weak in guarded
        ]

    def sample_pairs(self, prompts: Any, seed: int) -> list[dict[str, Any]]:
        """One preference pair for each prompt that gives one, selected as in training; see `pairs.write_pairs`."""

        def read(rollout: Rollout, inputs: list[dict]) -> list[dict]:
            n, rewards = rollout.per_prompt, self._group_rewards(rollout)
            selected, reasons = self._select(rollout, rewards)
            groups = [rollout.completions[start : start + n] for start in range(0, len(inputs), n)]
            pairs = rows_of_pairs([row["prompt"] for row in inputs[::n]], groups, rewards, selected)
            return [
                {"prompt_index": row["prompt_index"], "pair": pair, "reason": reason}
                for row, pair, reason in zip(inputs[::n], pairs, reasons, strict=True)
            ]

        rows = self.sample_rows(prompts, seed, read)
        self.pair_counts.add([row["reason"] for row in rows], self.args)
        return [row["pair"] for row in rows if row["pair"]]

    def sample_held_out(self, prompts: Any, seed: int) -> list[dict[str, Any]]:
        """What the policy answers to each prompt, sampled as in evaluation; prompts without any reward are left out.

        Returns:
            For each prompt its mean `reward`, mean completion `length` in tokens, `kl` (the mean log-ratio of its completions
            to the reference, an unbiased estimate at temperature 1), the share of completions with each of `WEAKNESSES`, and
            `completions`: `text`, `reward` and `length` of each.
        """

        def read(rollout: Rollout, inputs: list[dict]) -> list[dict]:
            n, rewards = rollout.per_prompt, self._group_rewards(rollout)
            lengths = torch.tensor([float(len(ids)) for ids in rollout.completion_ids], device=rewards.device)
            figures = {"reward": rewards.nanmean(dim=1), "length": lengths.view(-1, n).mean(dim=1)}
            figures["kl"] = self._log_ratios(rollout).view(-1, n).mean(dim=1)
            weak = weaknesses(rollout.completions, n).float().mean(dim=1)
            figures |= dict(zip(WEAKNESSES, weak.unbind(dim=1), strict=True))
            scored = zip(texts_of(rollout.completions), rewards.flatten().tolist(), lengths.tolist(), strict=True)
            completions = [
                {"text": text, "reward": None if math.isnan(reward) else reward, "length": int(length)}
                for text, reward, length in scored
            ]
            rows = zip(*(column.tolist() for column in figures.values()), strict=True)
            return [
                {"prompt_index": inputs[i * n]["prompt_index"]}
                | dict(zip(figures, row, strict=True))
                | {"completions": completions[i * n : (i + 1) * n]}
                for i, row in enumerate(rows)
                if not math.isnan(row[0])
            ]

        return self.sample_rows(prompts, seed, read)

    def _log_ratios(self, rollout: Rollout) -> torch.Tensor:
        """(local rows,) log-probability of each completion under the policy minus that under the reference, which the policy
        is before the first step."""
        if self.state.global_step == 0:
            return torch.zeros(len(rollout.completions), device=self.accelerator.device)
        prompt_ids, prompt_mask = self.pad_rows(rollout.prompt_ids, "left")
        completion_ids, completion_mask = self.pad_rows(rollout.completion_ids, "right")
        ids, mask = torch.cat([prompt_ids, completion_ids], dim=1), torch.cat([prompt_mask, completion_mask], dim=1)
        length = completion_mask.size(1)
        policy = self.completion_logps(self.model, ids, mask, length)[0]
        reference = self.reference_logps(ids, mask, length, len(ids))
        return ((policy - reference) * completion_mask).sum(dim=1)

    def _record_pairs(
        self,
        rollout: Rollout,
        rewards: torch.Tensor,
        chosen: torch.Tensor,
        rejected: torch.Tensor,
        keep: torch.Tensor,
    ) -> None:
        rows = torch.arange(len(rewards), device=rewards.device)
        lengths = torch.tensor([len(ids) for ids in rollout.completion_ids], device=rewards.device).view_as(rewards)
        of_pairs = torch.stack(
            [rewards[rows, chosen], rewards[rows, rejected], lengths[rows, chosen], lengths[rows, rejected]], dim=1
        )
        weak = weaknesses(rollout.completions, rollout.per_prompt).to(rewards)[rows, chosen]
        of_pairs = torch.cat([of_pairs, weak], dim=1)
        of_pairs = self.accelerator.gather(of_pairs.masked_fill(~keep.unsqueeze(1), torch.nan))
        means = of_pairs.nanmean(dim=0)
        self.record("reward/chosen", means[0])
        self.record("reward/rejected", means[1])
        self.record("reward/margin", means[0] - means[1])
        self.record("completions/chosen_length", means[2])
        self.record("completions/rejected_length", means[3])
        for name, share, count in zip(WEAKNESSES, means[4:], of_pairs[:, 4:].nansum(dim=0).tolist(), strict=True):
            self.record(f"chosen/{name}", share)
            if self.model.training:
                self.pair_counts.weak[name] += int(count)
        self.record("pairs/masked", of_pairs[:, 0].isnan().float().mean())
        sign = torch.zeros_like(rewards)
        sign[rows[keep], chosen[keep]] = 1.0
        sign[rows[keep], rejected[keep]] = -1.0
        names = {1.0: "chosen", -1.0: "rejected", 0.0: ""}
        self.record_completions(rollout, {"pair": [names[s] for s in sign.flatten().tolist()]}, sign.flatten())

    def _pad_pairs(self, rollout: Rollout, chosen: torch.Tensor, rejected: torch.Tensor) -> dict[str, torch.Tensor]:
        """Tensors with one row a pair: prompts padded left, completions padded right to a common length."""
        starts = range(0, len(rollout.prompts), rollout.per_prompt)
        picked = [
            rollout.completion_ids[start + i]
            for index in (chosen, rejected)
            for start, i in zip(starts, index.tolist(), strict=True)
        ]
        prompts = self.pad_rows([rollout.prompt_ids[start] for start in starts], "left")
        completions = self.pad_rows(picked, "right")
        batch = dict(
            zip(("prompt_ids", "prompt_mask", "completion_ids", "completion_mask"), prompts + completions, strict=True)
        )
        for name in ("ids", "mask"):  # (2P, L) → (P, 2, L), so that TRL's shuffle and split keep pairs together
            batch[f"completion_{name}"] = batch[f"completion_{name}"].unflatten(0, (2, -1)).transpose(0, 1).contiguous()
        return batch

    def _reference(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """(P, 2) log-probability of each completion under the reference model."""
        ids, attention_mask, completion_mask = _join(batch)
        logps = self.reference_logps(ids, attention_mask, completion_mask.size(1), 2 * self.args.pairs_per_device)
        return (logps * completion_mask).sum(dim=1).unflatten(0, (2, -1)).transpose(0, 1).contiguous()

    # Loss

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> torch.Tensor:
        """Mean DPO loss over the kept pairs of the optimizer step, in this batch's share. Masked pairs are not run."""
        if return_outputs:
            raise ValueError("BestOfNDPOTrainer returns no outputs, only the loss")
        keep = inputs["keep"]
        rows = keep.nonzero().flatten()
        if len(rows) == 0:  # one pair still runs, with weight 0: gradients are defined and no process waits
            rows = torch.zeros(1, dtype=torch.long, device=keep.device)
        weights = keep[rows].float()
        ids, attention_mask, completion_mask = _join(_trim({k: v[rows] for k, v in inputs.items()}))
        logps, entropies, aux_loss = self.completion_logps(model, ids, attention_mask, completion_mask.size(1))
        policy = (logps * completion_mask).sum(dim=1).unflatten(0, (2, -1)).T
        logratios = policy - inputs["reference_logps"][rows]
        lengths = completion_mask.sum(dim=1).unflatten(0, (2, -1)).T
        losses = dpo_loss(
            logratios[:, 0], logratios[:, 1], self.args.beta, self.args.loss_type, lengths[:, 0], lengths[:, 1]
        )
        loss = self.with_router_loss((losses * weights).sum() * self._scale(keep), aux_loss)
        self._check_finite(loss)
        self._record_step(logratios.detach(), weights, entropies.detach(), completion_mask)
        return loss

    def _scale(self, keep: torch.Tensor) -> float:
        """What turns this batch's sum of losses into its share of the mean over the optimizer step's pairs.

        The Trainer divides by the accumulation steps, and gradients are averaged over processes: both are undone.
        """
        batches, steps = [keep], 1
        if self.model.training:
            batches = [batch["keep"] for batch in self.accumulation_window()]
            steps = self.current_gradient_accumulation_steps
        kept = torch.stack([batch.sum() for batch in batches]).sum()
        total = self.accelerator.reduce(kept, reduction="sum").item()
        return steps * self.accelerator.num_processes / max(total, 1)

    def _check_finite(self, loss: torch.Tensor) -> None:
        if not self.accelerator.gather(loss.detach()).isfinite().all():
            raise NonFiniteLoss(
                f"the loss is not finite at {self.where()}; checkpoints saved so far are intact: resume from the last "
                "one with a lower learning_rate, or check the model's weights"
            )

    def _record_step(
        self, logratios: torch.Tensor, weights: torch.Tensor, entropies: torch.Tensor, mask: torch.Tensor
    ) -> None:
        """What the policy has moved away from the reference, on the pairs just trained."""
        implicit = self.args.beta * logratios
        tokens = torch.cat([weights, weights]) @ mask.float()
        sums = torch.stack(
            [
                weights.sum(),
                (implicit[:, 0] * weights).sum(),
                (implicit[:, 1] * weights).sum(),
                ((implicit[:, 0] > implicit[:, 1]) * weights).sum(),
                (logratios.sum(dim=1) * weights).sum() / 2,
                (torch.cat([weights, weights]) @ (entropies * mask)).sum(),
                tokens.sum(),
            ]
        )
        self._sums[self.mode()] += self.accelerator.reduce(sums, reduction="sum").cpu()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Means over all pairs since the last log, whatever batches they came in, join TRL's own numbers."""
        sums = dict(zip(SUMS, self._sums.pop(self.mode(), torch.zeros(len(SUMS))).tolist(), strict=True))
        if pairs := sums["pairs"]:
            self.record("implicit_reward/chosen", sums["chosen"] / pairs)
            self.record("implicit_reward/rejected", sums["rejected"] / pairs)
            self.record("implicit_reward/margin", (sums["chosen"] - sums["rejected"]) / pairs)
            self.record("implicit_reward/accuracy", sums["correct"] / pairs)
            self.record("kl", sums["kl"] / pairs)
            self.record("entropy", sums["entropy"] / sums["tokens"])
        super().log(logs, start_time)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """TRL's card, which it writes with each checkpoint; none as long as no pair was trained on."""
        if self.pair_counts.kept:
            super().create_model_card(*args, **kwargs)

    # Stopping

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """See `Trainer.train`. When rewards cannot be had, a checkpoint is saved before the error is raised."""
        try:
            return super().train(*args, **kwargs)
        except RewardSourceError as error:
            folder = self._save_before_stopping()
            raise RewardSourceError(f"{error}; stopped at step {self.state.global_step}, {folder}") from error

    def _save_before_stopping(self) -> str:
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        if self.state.global_step == 0:
            return "before the first step, nothing to save"
        if not (folder / STATE).exists():
            self.restore_random_state()
            try:
                self._save_checkpoint(self.model, None)
            except UserError as error:
                return f"and no checkpoint could be saved: {error}"
        return f"checkpoint in {folder}: run again with resume_from_checkpoint to go on"


def _join(batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """P pairs to 2P sequences, all chosen first: ids and attention mask (2P, prompt + completion), completion mask."""
    completion_ids, completion_mask = (batch[f"completion_{k}"].transpose(0, 1).flatten(0, 1) for k in ("ids", "mask"))
    ids = torch.cat([batch["prompt_ids"].repeat(2, 1), completion_ids], dim=1)
    attention_mask = torch.cat([batch["prompt_mask"].repeat(2, 1), completion_mask], dim=1)
    return ids, attention_mask, completion_mask


def _trim(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Drop columns that are padding in every row."""
    prompt = int(batch["prompt_mask"].sum(dim=1).max())
    completion = int(batch["completion_mask"].sum(dim=2).max())
    cut = {name: batch[name][:, -prompt:] for name in ("prompt_ids", "prompt_mask")}
    return batch | cut | {name: batch[name][:, :, :completion] for name in ("completion_ids", "completion_mask")}
