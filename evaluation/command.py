"""`wildreward evaluate`: is a reward model good, calibrated and consistent? Writes results.json, figures and a table."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wildreward.errors import UserError
from wildreward.evaluation.loading import MODEL_HELP, LoadingConfig
from wildreward.files import FolderLock
from wildreward.names import public_name
from wildreward.settings import check_least

logger = logging.getLogger(__name__)


@dataclass
class EvaluateConfig(LoadingConfig):
    """What to evaluate, on what, and where the results go."""

    model: str | None = field(default=None, metadata={"help": MODEL_HELP})
    compare: list[str] | None = field(
        default=None, metadata={"help": "Two models A and B instead of --model: compare them by paired bootstrap."}
    )
    dataset: list[str] | None = field(
        default=None, metadata={"help": "Feedback datasets to evaluate on: folders, Hub ids, or single files."}
    )
    split: str = field(default="test", metadata={"help": "Split of the datasets; a single file is read whole."})
    benchmark: list[str] | None = field(
        default=None,
        metadata={
            "help": "Benchmarks, each NAME (from the Hub) or NAME=PATH (a local file or folder); NAME is one of "
            "reward_bench, reward_bench_2, rm_bench, ppe_human, ppe_correctness, judge_bench.",
        },
    )
    output: str | None = field(
        default=None, metadata={"help": "Folder for results.json, results.md and figures/; default: the model folder."}
    )
    limit: int | None = field(default=None, metadata={"help": "Evaluate a seeded sample of this size only."})
    seed: int = field(default=0, metadata={"help": "Seed of sampling and resampling."})
    bootstrap: int = field(default=1000, metadata={"help": "Bootstrap resamples for the intervals; 0 for none."})
    bins: int = field(default=10, metadata={"help": "Bins of the calibration error."})
    plots: bool = field(default=True, metadata={"help": "Draw figures (needs matplotlib: the extra `plots`)."})
    chunk_size: int = field(default=256, metadata={"help": "Candidates scored between two writes to disk."})


CONFIGS = (EvaluateConfig,)


@dataclass(frozen=True)
class Options:
    """Settings of one evaluation that results depend on."""

    split: str = "test"
    limit: int | None = None
    seed: int = 0
    bootstrap: int = 1000
    bins: int = 10
    plots: bool = True
    chunk_size: int = 256


def check_options(options: Options, token_budget: int = 16_384, max_length: int = 4096, **_: Any) -> None:
    """Refuse numbers out of range; takes the options and what goes to `load_scorer`.

    Raises:
        UserError: naming all of them.
    """
    check_least(
        ("limit", options.limit, 1),
        ("seed", options.seed, 0),
        ("bootstrap", options.bootstrap, 0),
        ("bins", options.bins, 1),
        ("chunk_size", options.chunk_size, 1),
        ("token_budget", token_budget, 1),
        ("max_length", max_length, 1),
    )


def evaluate_model(
    model: str,
    output: str | Path | None = None,
    datasets: Sequence[str] = (),
    benchmarks: Sequence[str] = (),
    options: Options | None = None,
    **loading: Any,
) -> dict[str, Any]:
    """Evaluate one reward model and write `results.json`, `results.md` and `figures/`.

    Args:
        model: folder, Hub id or URL.
        output: folder to write to; default: the model folder.
        datasets: feedback datasets: folders, ids or single files.
        benchmarks: `NAME` or `NAME=PATH`.
        options: see `Options`.
        **loading: passed to `load_scorer`.

    Returns:
        What `results.json` holds.
    """
    from wildreward.evaluation.inputs import load_inputs
    from wildreward.evaluation.results import evaluate_scorer
    from wildreward.evaluation.scorers import load_scorer

    options = options or Options()
    check_options(options, **loading)
    folder = _output_folder(model, output)
    if not datasets and not benchmarks:
        raise UserError("nothing to evaluate on; give --dataset DIR_OR_ID or --benchmark NAME[=PATH]")
    with FolderLock(folder / "work"):
        inputs = load_inputs(datasets, benchmarks, options)
        return evaluate_scorer(load_scorer(model, **loading), folder, inputs, options)


def _output_folder(model: str, output: str | Path | None) -> Path:
    if output is not None:
        return Path(output)
    if Path(model).is_dir():
        return Path(model)
    raise UserError(f"{public_name(model)} is not a folder, so results cannot be written into it; give --output DIR")


def main(config: EvaluateConfig) -> None:
    """Run the command."""
    from wildreward.evaluation.report import markdown

    if (config.model is None) == (config.compare is None):
        raise UserError("give either --model MODEL or --compare A B")
    options = Options(
        config.split, config.limit, config.seed, config.bootstrap, config.bins, config.plots, config.chunk_size
    )
    datasets, benchmarks = config.dataset or [], config.benchmark or []
    if config.compare is not None:
        from wildreward.evaluation.compare import compare_models

        results = compare_models(config.compare, config.output, datasets, benchmarks, options, **config.loading())
        folder = Path(config.output or "")
    else:
        assert config.model is not None
        results = evaluate_model(config.model, config.output, datasets, benchmarks, options, **config.loading())
        folder = _output_folder(config.model, config.output)
        # Where the results lie in the model's own folder, its card shows them; another package's card is not ours.
        if results["model"]["kind"] == "wildreward" and folder.resolve() == Path(config.model).resolve():
            from wildreward.model_card import write_model_card

            write_model_card(folder, log=False)
    print(markdown(results))
    print(f"results: {folder / 'results.json'}")
