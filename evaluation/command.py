"""`wildreward evaluate`: is a reward model good, calibrated and consistent? Writes results.json, figures and a table."""

from pathlib import Path

from wildreward.common.errors import UserError
from wildreward.evaluation.settings import EvaluateConfig, JudgeConfig

CONFIGS = (EvaluateConfig, JudgeConfig)


def main(config: EvaluateConfig, judge: JudgeConfig) -> None:
    """Run the command."""
    from wildreward.evaluation.compare import compare_models
    from wildreward.evaluation.report import markdown
    from wildreward.evaluation.results import evaluate_model, output_folder

    judge.check(config)
    if sum(given is not None for given in (config.model, config.compare, judge.judge)) != 1:
        raise UserError("give one of --model MODEL, --compare A B and --judge MODEL")
    if judge.judge is not None:
        from wildreward.evaluation.judged import evaluate_judge

        results, folder = evaluate_judge(config, judge), Path(config.output or "")
    elif config.compare is not None:
        results, folder = compare_models(config), Path(config.output or "")
    else:
        results, folder = evaluate_model(config), output_folder(config)
        # Where the results lie in the model's own folder, its card shows them; another package's card is not ours.
        if results["model"]["kind"] == "wildreward" and folder.resolve() == Path(config.model or "").resolve():
            from wildreward.model_card import write_model_card

            write_model_card(folder, log=False)
    print(markdown(results))
    print(f"results: {folder / 'results.json'}")
