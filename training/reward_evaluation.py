"""Of the reward trainer: what held-out rows and pairs say, which checkpoint is the best, and calibration."""

import logging
from typing import Any

import torch
from datasets import Dataset
from torch import nn
from torch.utils.data import DataLoader
from transformers import Trainer
from transformers.trainer_utils import EvalLoopOutput

from wildreward.modeling_wildreward import WildRewardConfig
from wildreward.modeling_wildreward.calibration import fit_temperatures
from wildreward.training.resume import NonFiniteLoss
from wildreward.training.reward_config import OrdinalRewardConfig
from wildreward.training.reward_metrics import REPORTED, reward_metrics, standard_error
from wildreward.training.reward_pairs import latent_score, pair_losses, pairs_won

logger = logging.getLogger(__name__)

FEW_ROWS = 100  # too few to calibrate on
MODEL_INPUTS = ("input_ids", "attention_mask", "position_ids", "cu_seq_lens_q", "labels", "sample_weights")
NAMED_ROWS = 20  # at most, in an error


class EvaluatingTrainer(Trainer):
    """A Trainer whose batches are lists of micro-batches, see `reward_batching`: its evaluation."""

    args: OrdinalRewardConfig
    reward_config: WildRewardConfig
    threshold_weights: list[float] | None

    def _inputs(self, batch: dict[str, Any]) -> dict[str, Any]:
        """What the model gets of a micro-batch."""
        inputs = {name: batch[name] for name in MODEL_INPUTS if name in batch}
        inputs["label_smoothing"] = self.args.label_smoothing_factor
        if self.threshold_weights is not None:
            inputs["threshold_weights"] = torch.tensor(self.threshold_weights)
        return inputs

    def evaluation_loop(
        self,
        dataloader: DataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Threshold logits of all rows from all processes, and the metrics of them and of the pairs beside them."""
        model = self.model_wrapped if self.is_in_train else self.model
        model = model if self.is_in_train else self.accelerator.prepare_model(model, evaluation_mode=True)
        model.eval()  # in place: DeepSpeed's engine returns nothing
        rows, logits, labels, pairs, loss = self._predicted(model, dataloader)
        if not bool(logits.isfinite().all()):
            bad = rows[~logits.isfinite().all(dim=1)].tolist()
            raise NonFiniteLoss(f"the model gives NaN or infinite logits for the evaluation rows {bad[:NAMED_ROWS]}")
        metrics = {"loss": float(loss / len(labels))}
        metrics |= reward_metrics(logits, labels, self.reward_config.head, self.reward_config.temperatures)
        if len(pairs):
            chosen, rejected, margins = pairs.T
            metrics["pair_loss"] = float(pair_losses(chosen, rejected, margins).mean())
            metrics["pair_accuracy"] = float(pairs_won(chosen, rejected).mean())
            metrics["loss"] += self.args.pair_weight * metrics["pair_loss"]
        watched = (self.args.metric_for_best_model or "").removeprefix("eval_")
        self._standard_error = 0.0
        if self.is_in_train and self.args.load_best_model_at_end and watched in metrics and watched != "loss":
            self._standard_error = standard_error(watched, logits, labels, self.reward_config.head)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
        return EvalLoopOutput(logits.numpy(), labels.numpy(), metrics, len(labels))

    @torch.no_grad()
    def _predicted(self, model: nn.Module, dataloader: DataLoader) -> list[torch.Tensor]:
        """Of all processes: the (N,) rows in their order, their (N, K - 1) threshold logits and (N,) labels; the (P, 3) latent
        scores and margin of pairs; and the sum of the rows' losses."""
        found: list[list[torch.Tensor]] = []
        for batch in (batch for step in dataloader for batch in step["micro_batches"]):
            output = model(**self._prepare_inputs(self._inputs(batch)))
            counted, logits = batch["sample_weights"] > 0, output.threshold_logits.float().cpu()
            scores, chosen = latent_score(logits), batch["chosen"]
            pairs = torch.stack([scores[chosen], scores[chosen + 1], batch["margins"]], dim=1)
            loss = output.loss.float().cpu().reshape(1) * len(counted)
            found.append([batch["rows"][counted], logits[counted], batch["labels"][counted], pairs, loss])
            self.control = self.callback_handler.on_prediction_step(self.args, self.state, self.control)
        parts = [torch.cat(column) for column in zip(*found, strict=True)]
        if self.args.world_size > 1:
            gathered: list = [None] * self.args.world_size
            torch.distributed.all_gather_object(gathered, [part.numpy() for part in parts])
            parts = [torch.cat([torch.from_numpy(part) for part in column]) for column in zip(*gathered, strict=True)]
        rows, logits, labels, pairs, losses = parts
        order = rows.argsort()
        return [rows[order], logits[order], labels[order], pairs, losses.sum()]

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """The best checkpoint is the latest whose value is below the best one by no more than its own standard error
        (which is not known of the loss: there the best value decides).

        On a few hundred held-out rows the largest of several values is mostly chance, while a later checkpoint has seen
        more rows and comes with a smaller learning rate.
        """
        name = f"eval_{(self.args.metric_for_best_model or '').removeprefix('eval_')}"
        if name.removeprefix("eval_") in (*REPORTED, "ece") and name not in metrics:
            # such as roc_auc where the held-out rows have one level only
            logger.warning("%s is undefined on the held-out rows: this checkpoint cannot be the best", name)
            return False
        better = super()._determine_best_metric(metrics, trial)
        if not better and name in metrics and abs(metrics[name] - self.state.best_metric) <= self._standard_error:
            self.state.best_global_step = self.state.global_step
            return True
        return better

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
