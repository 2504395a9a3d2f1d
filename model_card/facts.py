"""What a model folder says about itself: everything a card states, read from the folder's own files."""

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from wildreward.common.errors import UserError
from wildreward.common.files import read_json
from wildreward.common.weights import weights_digest

logger = logging.getLogger(__name__)

REWARD, CLASSIFIER, LABELER, POLICY = "reward", "classifier", "labeler", "policy"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
LANGUAGES = {
    "english": "en", "chinese": "zh", "german": "de", "french": "fr", "spanish": "es", "portuguese": "pt",
    "italian": "it", "russian": "ru", "japanese": "ja", "korean": "ko", "arabic": "ar", "turkish": "tr",
    "dutch": "nl", "polish": "pl", "indonesian": "id", "vietnamese": "vi", "hindi": "hi", "ukrainian": "uk",
}  # fmt: skip
# Training arguments worth a reader's time; never paths, hosts or tokens.
TRAINING_ARGUMENTS = (
    "head", "pooling", "num_levels", "max_length", "rows_per_step", "prompts_per_step", "num_generations",
    "learning_rate", "lr_scheduler_type", "warmup_ratio", "warmup_steps", "num_train_epochs", "max_steps",
    "per_device_train_batch_size", "gradient_accumulation_steps", "optim", "weight_decay", "adam_beta1", "adam_beta2",
    "adam_epsilon", "max_grad_norm", "label_smoothing_factor", "level_weighting", "threshold_weighting",
    "use_confidence", "keep_cut_responses", "calibrate", "validation_share", "metric_for_best_model",
    "early_stopping_patience", "bf16", "fp16", "dtype", "gradient_checkpointing", "lora_rank", "lora_alpha",
    "lora_dropout", "beta", "temperature", "top_p", "min_margin", "loss_type", "max_prompt_length",
    "max_completion_length", "seed", "data_seed",
)  # fmt: skip
# Files of a training run that a card reads, by reward training, online DPO and train-labeler.
SUMMARIES = ("training_summary.json", "dpo_results.json", "labeler_results.json")


@dataclass(frozen=True)
class ModelFacts:
    """A model folder, as far as its card is concerned."""

    name: str
    role: str
    """"reward" (WildReward model), "classifier" (plain sequence classifier), "labeler" (classifier of follow-ups), or "policy" (causal language model)."""
    model_type: str
    config: Mapping[str, Any]
    repo_id: str | None = None
    base_model: str | None = None
    license: str | None = None
    """The base model's, where its card is at hand."""
    datasets: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    training: Mapping[str, Any] = field(default_factory=dict)
    results: Mapping[str, Any] = field(default_factory=dict)
    """Of these weights; those of others are left out."""
    results_of_other_weights: bool = False
    figures: tuple[str, ...] = ()
    reward_models: tuple[str, ...] = ()
    """Of a policy: the reward models on the Hub that it was trained with."""
    peft: bool = False

    @property
    def training_arguments(self) -> dict[str, Any]:
        """The training arguments a card lists, in a fixed order."""
        given = self.training.get("arguments") or self.training.get("settings") or {}
        return {name: given[name] for name in TRAINING_ARGUMENTS if given.get(name) not in (None, False, "", [], {})}


def read_model_facts(folder: str | os.PathLike, repo_id: str | None = None) -> ModelFacts:
    """Read a model folder: config.json (or adapter_config.json), what training and evaluation wrote, figures/.

    Args:
        folder: what `save_pretrained` or a trainer wrote.
        repo_id: where the model will live; the folder's name stands in for it.

    Raises:
        UserError: the folder holds no model, or one of these files cannot be read.
    """
    folder = Path(folder).resolve()
    peft = (folder / "adapter_config.json").exists()
    config_file = folder / ("adapter_config.json" if peft else "config.json")
    if not config_file.exists():
        raise UserError(f"{folder} holds no model: expected config.json in it; give a folder that a training run wrote")
    config = _mapping(config_file)
    training = {key: value for name in SUMMARIES for key, value in _mapping(folder / name, optional=True).items()}
    asked = training.get("arguments") or training.get("settings") or {}
    results = _mapping(folder / "results.json", optional=True)
    if others := _of_other_weights(results, folder):
        results = {}
    base = _first_text(
        config.get("base_model"),
        training.get("base_model"),
        config.get("base_model_name_or_path") if peft else None,
        asked.get("model"),
    )
    return ModelFacts(
        name=repo_id.split("/")[-1] if repo_id else folder.name,
        role=_role(config, peft),
        model_type=str(config.get("model_type") or config.get("peft_type") or "unknown"),
        config=config,
        repo_id=repo_id,
        base_model=base if base and is_hub_id(base) else None,
        license=_license_of(base) if base else None,
        datasets=tuple(
            filter(is_hub_id, (*_names(training.get("dataset") or asked.get("dataset")), *_names(asked.get("pairs"))))
        ),
        languages=_languages(training, results),
        training=training,
        results=results,
        results_of_other_weights=others,
        figures=_figures(results, folder),
        reward_models=tuple(filter(is_hub_id, _names(asked.get("reward_model")))),
        peft=peft,
    )


def is_hub_id(name: str) -> bool:
    """Whether a name reads like `owner/name` on the Hub and is no path on this machine."""
    return bool(HUB_ID.fullmatch(name)) and not name.startswith((".", "/")) and not Path(name).exists()


def _of_other_weights(results: Mapping[str, Any], folder: Path) -> bool:
    """Whether results were measured on weights that are not the folder's present ones; False where that was not recorded."""
    model = results.get("model")
    recorded = model.get("weights") if isinstance(model, Mapping) else None
    return recorded is not None and recorded != weights_digest(folder)


def _figures(results: Mapping[str, Any], folder: Path) -> tuple[str, ...]:
    """The figures that the results name, as far as they are there: others are of earlier evaluations."""
    parts = [*(results.get("datasets") or {}).values(), *(results.get("benchmarks") or {}).values()]
    parts += (results.get("pairs") or {}).values()
    names = {name for part in parts if isinstance(part, Mapping) for name in part.get("figures") or []}
    return tuple(f"figures/{name}" for name in sorted(names) if (folder / "figures" / name).is_file())


def _role(config: Mapping[str, Any], peft: bool) -> str:
    if config.get("model_type") == "wildreward":
        return REWARD
    names = " ".join(config.get("architectures") or []) + (f" {config.get('task_type')}" if peft else "")
    if "ForSequenceClassification" in names or "SEQ_CLS" in names:
        return LABELER if "feedback_labeler" in config else CLASSIFIER
    if "ForCausalLM" in names or "CAUSAL_LM" in names or "ForConditionalGeneration" in names:
        return POLICY
    raise UserError(
        f"config.json names the architecture {names.strip() or 'none'}; expected a WildReward model, "
        "a sequence classifier or a causal language model"
    )


def _license_of(base: str) -> str | None:
    """The license in the base model's card, where that card is on this machine (folder or Hub cache)."""
    from huggingface_hub import ModelCard, try_to_load_from_cache

    card = Path(base) / "README.md"
    if not card.is_file():
        cached = try_to_load_from_cache(base, "README.md") if is_hub_id(base) else None
        if not isinstance(cached, str):
            return None
        card = Path(cached)
    try:
        found = ModelCard(card.read_text(encoding="utf-8", errors="replace"), ignore_metadata_errors=True).data.get(
            "license"
        )
    except (yaml.YAMLError, ValueError, TypeError):
        logger.warning("the card of %s has YAML that does not parse; its license is not taken over", base)
        return None
    return found if isinstance(found, str) else None


def _languages(training: Mapping[str, Any], results: Mapping[str, Any]) -> tuple[str, ...]:
    """ISO codes of the languages trained on, else of those evaluated on; names that are not known are left out."""
    names = _names(training.get("languages"))
    if not names:
        for result in (results.get("datasets") or {}).values():
            names += list(result.get("languages") or {})
    codes = [LANGUAGES.get(name.lower(), name.lower()) for name in names]
    return tuple(dict.fromkeys(code for code in codes if re.fullmatch(r"[a-z]{2,3}", code)))


def _mapping(path: Path, optional: bool = False) -> dict[str, Any]:
    if optional and not path.exists():
        return {}
    value = read_json(path)
    if not isinstance(value, dict):
        raise UserError(f"{path} holds a {type(value).__name__}; expected a JSON object")
    return value


def _names(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [str(key) for key in value]
    return [value] if isinstance(value, str) else [str(item) for item in value or []]


def _first_text(*values: Any) -> str | None:
    return next((value for value in values if isinstance(value, str) and value), None)
