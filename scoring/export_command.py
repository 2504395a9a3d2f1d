"""`wildreward export`: a reward model as a plain `<Arch>ForSequenceClassification`, for inference engines."""

from dataclasses import dataclass, field
from typing import Literal

from wildreward.common.errors import UserError
from wildreward.common.files import make_folder, refuse_filled


@dataclass
class ExportConfig:
    model: str = field(metadata={"help": "Reward model folder or Hub id; decoder backbone, coral or independent head."})
    output: str = field(metadata={"help": "Folder for the plain classifier, new or empty."})
    form: Literal["scalar", "thresholds"] | None = field(
        default=None,
        metadata={
            "help": "scalar: one label, the logit w·h, with thresholds and temperatures in config.json (coral head); "
            "thresholds: K-1 labels, P(level > k) each (independent head). Default: the one that the head has."
        },
    )
    revision: str | None = field(default=None, metadata={"help": "Revision of a model from the Hub."})


CONFIGS = (ExportConfig,)
READ = {
    "scalar": "score = 1 + sum(sigmoid((logit + wildreward_thresholds) / wildreward_temperatures)), in the logit's order",
    "thresholds": "score = 1 + sum(sigmoid(logits))",
}


def main(config: ExportConfig) -> None:
    """Write the classifier with its tokenizer, and say how to read its logits."""
    refuse_filled(config.output)
    from wildreward.modeling_wildreward.interchange import check_form, export_model
    from wildreward.scoring.load import open_config
    from wildreward.scoring.scorer import RewardScorer

    settings, commit = open_config(config.model, config.revision)
    try:
        form = check_form(settings, config.form) if settings.model_type == "wildreward" else None
        scorer = RewardScorer.from_pretrained(config.model, revision=commit)
        classifier, tokenizer = export_model(scorer.model, scorer.tokenizer, form)
    except ValueError as error:
        raise UserError(str(error)) from error
    classifier.save_pretrained(make_folder(config.output))
    tokenizer.save_pretrained(config.output)
    print(f"{type(classifier).__name__} in {config.output}; {READ[str(form)]}")
