"""`wildreward train-reward`: a dataset and a backbone in, a complete reward model folder out.

The folder holds the model (safetensors, its code and `auto_map`), the tokenizer with the reward model's chat template,
`training_summary.json` and the card. Checkpoints and the run's settings are in `work/`; running the same command again
goes on from the last complete checkpoint.
"""

import copy
import dataclasses
import importlib.metadata
import json
import logging
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from wildreward.errors import UserError
from wildreward.files import FolderLock, make_folder, read_json, write_json
from wildreward.model_card import write_model_card
from wildreward.modeling_wildreward import response_mark
from wildreward.modeling_wildreward.pooling import SECTIONS
from wildreward.names import public_name
from wildreward.settings import check_above, check_below, check_least, check_settings, claim
from wildreward.training.checkpoints import choose_checkpoint, has_checkpoint
from wildreward.training.launch_checks import refuse_half_weights_under_fsdp, refuse_sharded_adapters, use_one_gpu
from wildreward.training.ordinal_reward_config import OrdinalRewardConfig
from wildreward.training.ordinal_reward_trainer import OrdinalRewardTrainer
from wildreward.training.provenance import dataset_digest, decisive_settings, model_digest
from wildreward.training.reward_data import level_frequencies
from wildreward.training.reward_estimates import estimate, printed_estimate
from wildreward.training.reward_model import adapters, build_model, load_tokenizer, naming_the_backbone
from wildreward.training.reward_splits import load_splits
from wildreward.training.reward_stream import refuse_for_streams

logger = logging.getLogger(__name__)

SUMMARY = "training_summary.json"
NO_FOLDER = "trainer_output"  # what transformers makes of no output_dir
# what decides the resulting weights, beside what does for every trainer
DECISIVE = (
    "rows_per_step",
    "label_smoothing_factor",
    "level_weighting",
    "threshold_weighting",
    "use_confidence",
    "keep_cut_responses",
    "shuffle_buffer",
    "max_length",
    "load_best_model_at_end",
    "early_stopping_patience",
)
# decide, too, where the best checkpoint is taken, or training stops by it
DECISIVE_FOR_BEST = (
    "eval_strategy",
    "eval_steps",
    "eval_delay",
    "save_strategy",
    "save_steps",
    "metric_for_best_model",
    "greater_is_better",
)


# Fields of TrainingArguments that a trainer in Python understands, and what the commands have instead.
INSTEAD = {
    "push_to_hub": "run wildreward push --path DIR --repo-id ID when the model is there",
    "hub_token": "set HF_TOKEN in the environment; a token in the settings would be written down with them",
    "resume_from_checkpoint": "run the same command again, it goes on from its last checkpoint",
    "save_only_model": "without the optimizer's state a run that was killed could not go on as if undisturbed",
    "ignore_data_skip": "a run that was killed could not go on with the rows that it has not seen",
}


@dataclass
class TrainRewardArguments:
    """What `train-reward` trains, on what; how is in `OrdinalRewardConfig`."""

    hidden_options: ClassVar[tuple[str, ...]] = tuple(INSTEAD)

    dataset: str = field(metadata={"help": "Dataset folder, parquet or JSON Lines file, or Hub id."})
    base_model: str = field(metadata={"help": "Hub id or folder of the backbone, an encoder or a decoder."})
    dataset_config: str | None = field(default=None, metadata={"help": "Configuration of the dataset."})
    dataset_revision: str | None = field(default=None, metadata={"help": "Revision of a dataset on the Hub."})
    train_split: str = field(default="train", metadata={"help": "Split to train on; also slices such as train[:1000]."})
    streaming: bool = field(
        default=False, metadata={"help": "Read the dataset as a stream: nothing is stored; needs max_steps."}
    )
    validation_share: float = field(
        default=0.1,
        metadata={"help": "Share of the train users held out for model selection and calibration."},
    )
    max_validation_rows: int = field(default=2000, metadata={"help": "Most rows held out."})
    num_levels: int = field(default=4, metadata={"help": "Number of feedback levels K; labels are 1..K."})
    head: Literal["coral", "corn", "independent"] = field(
        default="coral", metadata={"help": "Ordinal head: Cao et al. 2020, Shi et al. 2021, or K-1 logistic units."}
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
    estimate: int = field(
        default=0, metadata={"help": "Print the memory and time this run would take on so many devices, and stop."}
    )
    estimate_sharding: Literal["none", "zero2", "zero3"] = field(
        default="none", metadata={"help": "For the estimate: what is sharded over the devices; FSDP2 is like zero3."}
    )
    estimate_tflops: int = field(
        default=200,
        metadata={
            "help": "For the estimate: 10^12 operations a second that one device achieves. The default is a fifth of an "
            "H100's peak in bfloat16, a little less than was measured there."
        },
    )
    estimate_tokens: int = field(default=1000, metadata={"help": "For the estimate: mean tokens of a row."})

    def __post_init__(self) -> None:
        check_least(
            ("lora_rank", self.lora_rank, 0),
            ("lora_dropout", self.lora_dropout, 0),
            ("frozen_layers", self.frozen_layers, 0),
            ("max_validation_rows", self.max_validation_rows, 1),
            ("num_levels", self.num_levels, 2),
            ("estimate", self.estimate, 0),
            ("estimate_tflops", self.estimate_tflops, 1),
            ("estimate_tokens", self.estimate_tokens, 1),
        )
        check_above(("validation_share", self.validation_share, 0), ("lora_alpha", self.lora_alpha, 0))
        check_below(("validation_share", self.validation_share, 1), ("lora_dropout", self.lora_dropout, 1))
        if self.lora_rank and self.frozen_layers:
            raise UserError(
                f"frozen_layers is {self.frozen_layers} and lora_rank is {self.lora_rank}; under adapters all layers are "
                "frozen already and all get an adapter: choose one of the two"
            )


CONFIGS = (TrainRewardArguments, OrdinalRewardConfig)


def main(arguments: TrainRewardArguments, config: OrdinalRewardConfig) -> None:
    """Run the command and print where the model is and how good it is on the held-out users."""
    if arguments.estimate:
        stage = {"none": 0, "zero2": 2, "zero3": 3}[arguments.estimate_sharding]
        with naming_the_backbone(arguments.base_model):
            needed = estimate(
                arguments,
                config,
                devices=arguments.estimate,
                zero_stage=stage,
                flops_per_second=arguments.estimate_tflops * 1e12,
                mean_tokens=arguments.estimate_tokens,
            )
            print(printed_estimate(needed))
        return
    folder = config.output_dir
    summary = train_reward(arguments, config)
    if config.process_index == 0:
        shown = ", ".join(f"{name} {value:.3f}" for name, value in summary["validation"].items() if name != "loss")
        rows = summary["rows"]
        read = f"{summary['steps']} steps of a stream" if arguments.streaming else f"{rows['train']} rows"
        print(
            f"reward model in {folder}: {read}, {summary['seconds']:.0f} s; "
            f"on {rows['validation']} validation rows: {shown}"
        )


def train_reward(arguments: TrainRewardArguments, config: OrdinalRewardConfig) -> dict[str, Any]:
    """Train, calibrate and write a reward model folder at `config.output_dir`.

    A finished folder made with the same settings is left as it is; an interrupted run is continued.

    Returns:
        What is written to `training_summary.json`; its `arguments` on the main process only.

    Raises:
        UserError: see `launch_checks`, `load_rows`, `prepare_features`; the folder belongs to another run or to
            other settings.
    """
    use_one_gpu(config)
    check_output_folder(config)
    refuse_what_is_done_otherwise(config)
    refuse_half_weights_under_fsdp(config, arguments.dtype)
    if arguments.lora_rank:
        refuse_sharded_adapters(config)
    if arguments.streaming:
        refuse_for_streams(config)
    folder = make_folder(config.output_dir)
    work = folder / "work"
    # every process looks for itself, before any waits for another
    finished = (folder / SUMMARY).exists() and (folder / "config.json").exists()
    if config.process_index > 0:  # the main process holds the lock and the settings for all
        return read_json(folder / SUMMARY) if finished else _train(arguments, config, folder, work, {})
    with FolderLock(work):
        settings = run_settings(arguments, config)
        if finished and not (work / "settings.json").exists():  # work/ may be deleted
            check_settings(work, read_json(folder / SUMMARY)["arguments"])
        with claim(work, settings, begun=lambda: finished or has_checkpoint(work)):
            if not finished:
                return _train(arguments, config, folder, work, settings)
        logger.info("%s is complete already", folder)
        if not (folder / "README.md").exists():
            write_model_card(folder, config.hub_model_id)
        return read_json(folder / SUMMARY)


def check_output_folder(config: OrdinalRewardConfig) -> None:
    """Refuse to write into the folder that transformers takes where none is named (`UserError`)."""
    if config.output_dir == NO_FOLDER:
        raise UserError("there is no output_dir; name the folder to write with --output-dir")


def refuse_what_is_done_otherwise(config: OrdinalRewardConfig) -> None:
    """Refuse the Trainer's options that the commands have another way for (`UserError` naming each with that way)."""
    given = [f"{name} ({remedy})" for name, remedy in INSTEAD.items() if getattr(config, name)]
    if given:
        raise UserError(f"not possible here, remove: {'; '.join(given)}")


def _train(
    arguments: TrainRewardArguments, config: OrdinalRewardConfig, folder: Path, work: Path, settings: dict[str, Any]
) -> dict[str, Any]:
    started = time.monotonic()
    model = build_model(arguments, config)
    with naming_the_backbone(arguments.base_model):
        tokenizer = load_tokenizer(arguments)
        if model.config.pooling == SECTIONS:
            response_mark(tokenizer)  # for its refusal, before the dataset is read
    train, validation, left_out = load_splits(arguments, config, tokenizer, model.config.max_length)
    labels = (validation if arguments.streaming else train)["label"][:]
    model.score.set_prior(level_frequencies(labels, arguments.num_levels))
    inner = copy.copy(config)
    inner.output_dir = str(work.resolve())  # the state of a checkpoint names the best one by its path
    trainer = OrdinalRewardTrainer(
        model=model,
        args=inner,
        train_dataset=train,
        eval_dataset=validation,
        processing_class=tokenizer,
        peft_config=adapters(arguments),
    )
    checkpoint = choose_checkpoint(work, config)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    uncalibrated = metrics = trainer.evaluate()
    if arguments.calibrate:
        metrics = trainer.calibrate()
    trainer.save_reward_model(str(folder))
    summary = {
        "base_model": public_name(arguments.base_model),
        "dataset": public_name(arguments.dataset),
        "arguments": settings,
        "rows": {
            "train": None if arguments.streaming else len(trainer.train_dataset),
            "validation": len(trainer.eval_dataset),
            "left_out": left_out,
        },
        "steps": trainer.state.global_step,
        "best_step": trainer.state.best_global_step,
        "temperatures": trainer.reward_config.temperatures,
        "validation": _named(metrics),
        "validation_uncalibrated": _named(uncalibrated),
        "log": [_finite(entry) for entry in trainer.state.log_history if "loss" in entry or "eval_loss" in entry],
        "seconds": round(time.monotonic() - started, 1),
        "versions": {
            name: importlib.metadata.version(name) for name in ("wildreward", "torch", "transformers", "datasets")
        },
    }
    if config.process_index == 0:
        write_json(folder / SUMMARY, summary)
        write_model_card(folder, config.hub_model_id)
    return summary


def run_settings(arguments: TrainRewardArguments, config: OrdinalRewardConfig) -> dict[str, Any]:
    """What the result depends on, without machine paths; local data and weights are known by their contents."""
    settings = dataclasses.asdict(arguments)
    settings |= {name: public_name(getattr(arguments, name)) for name in ("dataset", "base_model")}
    settings["dataset_digest"] = dataset_digest(arguments.dataset)
    settings["base_model_digest"] = model_digest(arguments.base_model)
    for name in ("estimate", "estimate_sharding", "estimate_tflops", "estimate_tokens"):
        del settings[name]
    by_best = config.load_best_model_at_end or config.early_stopping_patience is not None
    decisive = decisive_settings(config, DECISIVE + (DECISIVE_FOR_BEST if by_best else ()))
    return json.loads(json.dumps(settings | decisive, default=str))


def _finite(entry: dict[str, Any]) -> dict[str, Any]:
    """A log entry without what JSON has no number for, such as the norm of a step that fp16's loss scaler skipped."""
    return {name: value for name, value in entry.items() if not isinstance(value, float) or math.isfinite(value)}


def _named(metrics: dict[str, float]) -> dict[str, float]:
    named = {name.removeprefix("eval_"): value for name, value in metrics.items()}
    speed = ("runtime", "samples_per_second", "steps_per_second", "epoch")
    return {name: value for name, value in named.items() if name not in speed}
