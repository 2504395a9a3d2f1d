"""`wildreward convert`: a plain `<Arch>ForSequenceClassification` with K - 1 labels as a reward model."""

from dataclasses import dataclass, field
from pathlib import Path

from wildreward.errors import UserError
from wildreward.files import make_folder


@dataclass
class ConvertConfig:
    checkpoint: str = field(metadata={"help": "Folder or Hub id of the classifier; its labels are the thresholds."})
    output: str = field(metadata={"help": "Folder for the reward model."})
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
    from safetensors import SafetensorError

    from wildreward.modeling_wildreward.interchange import convert_checkpoint
    from wildreward.scorer import RewardScorer

    if config.max_length < 1:
        raise UserError(f"--max-length is {config.max_length}; expected at least 1")
    template = config.template
    if template not in (None, "default"):
        if not Path(template).is_file():
            raise UserError(f"the template file {template} does not exist")
        template = Path(template).read_text(encoding="utf-8")
    try:
        model, tokenizer = convert_checkpoint(config.checkpoint, template, config.max_length, config.revision)
    except (ValueError, OSError, SafetensorError) as error:
        raise UserError(f"cannot convert {config.checkpoint}: {error}") from error
    RewardScorer(model, tokenizer).save_pretrained(make_folder(config.output))
    print(f"reward model with {model.config.num_levels} levels in {config.output}")
