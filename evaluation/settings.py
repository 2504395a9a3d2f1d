"""The settings of an evaluation: one object from the command line to whatever reads them."""

from dataclasses import dataclass, field, fields
from typing import ClassVar

from wildreward.common.errors import UserError
from wildreward.common.settings import check_above, check_least, check_range
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


@dataclass
class JudgeConfig:
    """A chat model that is asked which of two answers is better, in place of a reward model."""

    option_groups: ClassVar[dict[str, str]] = {"judge": "a chat model as a judge"}

    judge: str | None = field(
        default=None,
        metadata={
            "help": "Chat model instead of --model, as its server calls it: it is shown the two answers of every pair in both "
            "orders. Needs --output."
        },
    )
    base_url: str | None = field(
        default=None,
        metadata={"help": "OpenAI-compatible server that is asked, up to and including /v1; default: OpenAI's own."},
    )
    api_key_env: str = field(
        default="OPENAI_API_KEY", metadata={"help": "Environment variable that holds the server's key."}
    )
    concurrency: int = field(default=128, metadata={"help": "Most requests under way at once."})
    temperature: float = field(default=0.0, metadata={"help": "Sampling temperature."})
    extra_body: str = field(
        default="", metadata={"help": 'More request fields as JSON, e.g. {"reasoning_effort": "low"}.'}
    )
    max_answer_tokens: int = field(default=1024, metadata={"help": "Room for a reply, with its thinking."})
    shown_tokens: int = field(
        default=16_000, metadata={"help": "Most tokens of a pair and its prompt that are shown; the rest is cut out."}
    )
    timeout: float = field(
        default=120.0, metadata={"help": "Seconds that one answer may take; a question gets 7.5 times that."}
    )
    max_failed: float = field(
        default=0.01,
        metadata={
            "help": "Share of questions that may stay unanswered because the server failed or was too slow. With more the run "
            "ends without results; the same command then asks only those again."
        },
    )
    price_prompt: float = field(default=0.0, metadata={"help": "Price of a million prompt tokens, to show the cost."})
    price_completion: float = field(default=0.0, metadata={"help": "Price of a million completion tokens."})

    def check(self, config: EvaluateConfig) -> None:
        """Refuse options that do not go together, and numbers out of range (`UserError`)."""
        if self.judge is None:
            refuse_unused([*changed(self)], "without --judge")
            return
        kept = {
            "dataset",
            "split",
            "benchmark",
            "pairs",
            "output",
            "limit",
            "seed",
            "bootstrap",
            "plots",
            "keep_reasoning",
        }
        if config.dataset:
            raise UserError(
                "--judge compares two answers to one prompt, and --dataset holds single answers with a level; expected --pairs "
                "or --benchmark"
            )
        refuse_unused([name for name in changed(config) if name not in kept], "with --judge")
        if config.output is None:
            raise UserError("a judge has no folder, so results cannot be written into it; give --output DIR")
        check_range(("max_failed", self.max_failed, 0, 1))


def changed(config: object) -> list[str]:
    """Options that are not at their defaults."""
    return [
        option.name for option in fields(config) if getattr(config, option.name) != getattr(type(config)(), option.name)
    ]


def refuse_unused(names: list[str], why: str) -> None:
    """Refuse options that would have no effect.

    Raises:
        UserError: there are some.
    """
    if names:
        raise UserError(f"{', '.join(f'--{name}' for name in names)} has no effect {why}; leave it out")
