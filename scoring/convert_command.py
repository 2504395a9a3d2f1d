"""`wildreward convert`: an export, or a plain `<Arch>ForSequenceClassification` with K - 1 labels, as a reward model."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wildreward.common.errors import UserError
from wildreward.common.files import make_folder, refuse_filled
from wildreward.common.lookup import load_error_message
from wildreward.common.settings import check_least
from wildreward.common.weights import check_files


@dataclass
class ConvertConfig:
    checkpoint: str = field(
        metadata={"help": "Folder or Hub id of an export, or of a classifier whose labels are thresholds."}
    )
    output: str = field(metadata={"help": "Folder for the reward model, new or empty."})
    template: str | None = field(
        default=None,
        metadata={
            "help": "Jinja file that renders messages to the text the checkpoint was trained on, or `default` for this "
            "package's own template; left out, the checkpoint's tokenizer must have that one."
        },
    )
    max_length: int = field(default=4096, metadata={"help": "Longest input in tokens."})
    revision: str | None = field(default=None, metadata={"help": "Revision of a checkpoint from the Hub."})


CONFIGS = (ConvertConfig,)


def main(config: ConvertConfig) -> None:
    """Write the reward model folder."""
    refuse_filled(config.output)
    check_least(("max_length", config.max_length, 1))
    from safetensors import SafetensorError

    from wildreward.modeling_wildreward.interchange import convert_checkpoint
    from wildreward.scoring.limited_template import limit_template
    from wildreward.scoring.scorer import RewardScorer

    template = config.template
    if template not in (None, "default"):
        if not Path(template).is_file():
            raise UserError(f"the template file {template} does not exist")
        template = Path(template).read_text(encoding="utf-8")
    check_files(config.checkpoint)
    try:
        model, tokenizer = convert_checkpoint(config.checkpoint, template, config.max_length, config.revision)
    except (ValueError, OSError, SafetensorError) as error:
        raise UserError(
            f"cannot convert {config.checkpoint}: {load_error_message(config.checkpoint, error)}"
        ) from error
    limit_template(tokenizer, config.template or config.checkpoint)
    check_room(model, tokenizer)
    RewardScorer(model, tokenizer).save_pretrained(make_folder(config.output))
    print(f"reward model with {model.config.num_levels} levels in {config.output}")


def check_room(model: Any, tokenizer: Any) -> None:
    """Refuse a longest input that has no room for the shortest conversation (`UserError`)."""
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    least = len(tokenizer(text, add_special_tokens=False)["input_ids"])
    if model.config.max_length < least:
        raise UserError(
            f"the longest input is {model.config.max_length} tokens (--max_length, or the checkpoint's positions); "
            f"expected at least {least}, what the template and two messages of one letter take"
        )
