"""`wildreward evaluate`: is a reward model good, calibrated and consistent? Writes results.json, figures and a table."""

from pathlib import Path

from wildreward.common.errors import UserError
from wildreward.evaluation.settings import EvaluateConfig

CONFIGS = (EvaluateConfig,)


def main(config: EvaluateConfig) -> None:
    """Run the command."""
    from wildreward.evaluation.compare import compare_models
    from wildreward.evaluation.report import markdown
    from wildreward.evaluation.results import evaluate_model, output_folder

    if (config.model is None) == (config.compare is None):
        raise UserError("give either --model MODEL or --compare A B")
    if config.compare is not None:
        results, folder = compare_models(config), Path(config.output or "")
    else:
        results, folder = evaluate_model(config), output_folder(config)
        # Where the results lie in the model's own folder, its card shows them; another package's card is not ours.
        if results["model"]["kind"] == "wildreward" and folder.resolve() == Path(config.model or "").resolve():
            from wildreward.model_card import write_model_card

            write_model_card(folder, log=False)
    print(markdown(results))
    print(f"results: {folder / 'results.json'}")
