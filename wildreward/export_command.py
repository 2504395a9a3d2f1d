"""`wildreward export`: a reward model as a plain `<Arch>ForSequenceClassification` with K - 1 labels."""

from dataclasses import dataclass, field

from wildreward.errors import UserError
from wildreward.files import make_folder, refuse_filled


@dataclass
class ExportConfig:
    model: str = field(metadata={"help": "Reward model folder or Hub id; independent head, decoder backbone."})
    output: str = field(metadata={"help": "Folder for the plain classifier, new or empty."})
    revision: str | None = field(default=None, metadata={"help": "Revision of a model from the Hub."})


CONFIGS = (ExportConfig,)


def main(config: ExportConfig) -> None:
    """Write the classifier with its tokenizer, and say how to read its logits."""
    refuse_filled(config.output)
    from wildreward.modeling_wildreward.interchange import export_model
    from wildreward.scorer import RewardScorer

    scorer = RewardScorer.from_pretrained(config.model, revision=config.revision)
    try:
        classifier, tokenizer = export_model(scorer.model, scorer.tokenizer)
    except ValueError as error:
        raise UserError(str(error)) from error
    classifier.save_pretrained(make_folder(config.output))
    tokenizer.save_pretrained(config.output)
    print(f"{type(classifier).__name__} in {config.output}; score = 1 + sum(sigmoid(logits))")
