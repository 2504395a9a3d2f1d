"""The settings of an evaluation: one object from the command line to whatever reads them."""

from dataclasses import dataclass, field

from wildreward.common.errors import UserError
from wildreward.common.settings import check_above, check_least
from wildreward.scoring.load import MODEL_HELP, LoadingConfig


@dataclass
class EvaluateConfig(LoadingConfig):
    """What to evaluate, on what, and where the results go."""

    model: str | None = field(default=None, metadata={"help": MODEL_HELP})
    compare: list[str] | None = field(
        default=None, metadata={"help": "Two or more models instead of --model: compare them by paired bootstrap."}
    )
    dataset: list[str] = field(
        default_factory=list, metadata={"help": "Feedback datasets to evaluate on: folders, Hub ids, or single files."}
    )
    split: str = field(default="test", metadata={"help": "Split of the datasets; a single file is read whole."})
    benchmark: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Benchmarks, each NAME (from the Hub) or NAME=PATH (a local file or folder); NAME is one of "
            "reward_bench, reward_bench_2, rm_bench, ppe_human, ppe_correctness, judge_bench, rmb.",
        },
    )
    pairs: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Sets of pairs, each a file, folder or Hub id with prompt, chosen, rejected (texts or messages), or "
            "NAME=FILE to name it in the results; the name llmbar adds that benchmark's means."
        },
    )
    sanity: bool = field(
        default=False,
        metadata={
            "help": "Also count how often answers that users liked (of the datasets), or that were chosen (of the pairs), score "
            "above broken ones: of another question, shuffled, cut off, repeated, empty, or refusing."
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

    def check(self) -> None:
        """Refuse numbers out of range, and an evaluation on nothing (`UserError`)."""
        least = {"limit": 1, "seed": 0, "bootstrap": 0, "bins": 1, "chunk_size": 1, "token_budget": 1, "max_length": 1}
        check_least(*((name, getattr(self, name), number) for name, number in least.items()))
        check_above(("beta", self.beta, 0))
        if not self.dataset and not self.benchmark and not self.pairs:
            raise UserError(
                "nothing to evaluate on; give --dataset DIR_OR_ID or --benchmark NAME[=PATH] or --pairs FILE_OR_ID"
            )
        if self.sanity and not self.dataset and not self.pairs:
            raise UserError(
                "--sanity breaks answers of datasets and pairs, and there are only benchmarks; give --dataset or --pairs"
            )
