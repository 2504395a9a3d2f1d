"""`wildreward build-dataset`: chats to a dataset of user feedback."""

import os
from dataclasses import dataclass, field
from typing import Literal

from wildreward.errors import UserError


@dataclass
class BuildDatasetConfig:
    source: str = field(
        default="", metadata={"help": "Chats: a JSON, JSONL or parquet file, a folder of them, or a Hub dataset id."}
    )
    revision: str | None = field(
        default=None, metadata={"help": "Commit, branch or tag of a Hub dataset; default: its main branch."}
    )
    output: str = field(default="", metadata={"help": "Dataset folder to make, or to go on with."})
    labeler: Literal["cues", "classifier", "llm", "transformers", "file"] = field(
        default="cues", metadata={"help": "Who reads the level of a follow-up."}
    )
    cues_classifier: bool = field(
        default=True,
        metadata={
            "help": "Let a small classifier on all-MiniLM-L6-v2 back up the cues; without it they take a tenth of a "
            "millisecond a turn and miss nearly half of the complaints."
        },
    )
    min_confidence: float | None = field(
        default=None,
        metadata={
            "help": "Probability from which --labeler classifier calls a follow-up negative or positive: higher is more "
            "precise and finds less. Default: the model's own thresholds."
        },
    )
    labels: str | None = field(default=None, metadata={"help": "Labels file for --labeler file (JSONL or parquet)."})
    base_url: str | None = field(
        default=None,
        metadata={
            "help": "Server that is asked, up to and including /v1: an OpenAI-compatible one for --labeler llm (default: "
            "OpenAI's own), one with /v1/systemone for --labeler transformers (default: a model on this machine)."
        },
    )
    model: str | None = field(
        default=None,
        metadata={"help": "Model for --labeler llm or transformers, or for classifier one that train-labeler made."},
    )
    api_key_env: str = field(
        default="OPENAI_API_KEY", metadata={"help": "Environment variable that holds the endpoint's key."}
    )
    concurrency: int = field(default=128, metadata={"help": "Most requests under way at once (endpoints)."})
    temperature: float = field(default=0.0, metadata={"help": "Sampling temperature for --labeler llm."})
    extra_body: str = field(
        default="",
        metadata={"help": 'More request fields as JSON for --labeler llm, e.g. {"reasoning_effort": "low"}.'},
    )
    max_answer_tokens: int = field(
        default=1024, metadata={"help": "Room for a reply, with its thinking, for --labeler llm."}
    )
    shown_tokens: int = field(
        default=3800, metadata={"help": "Most tokens of a conversation that a model is shown; the rest is cut out."}
    )
    timeout: float = field(
        default=120.0, metadata={"help": "Seconds that one answer of an endpoint may take; a row gets 7.5 times that."}
    )
    max_failed: float = field(
        default=0.01,
        metadata={
            "help": "Share of questions that may stay unanswered because the endpoint failed or was too slow. With more "
            "the run ends before the dataset is written; the same command then asks only those again."
        },
    )
    ask_failed_again: bool = field(
        default=False,
        metadata={"help": "In a finished folder, ask again what the endpoint failed on, and write the dataset anew."},
    )
    batch_size: int = field(default=8, metadata={"help": "Prompts in one forward pass, for --labeler transformers."})
    price_prompt: float = field(default=0.0, metadata={"help": "Price of a million prompt tokens, to show the cost."})
    price_completion: float = field(default=0.0, metadata={"help": "Price of a million completion tokens."})
    layout: Literal["auto", "wildchat", "lmsys", "sharegpt", "messages"] = field(
        default="auto", metadata={"help": "Layout of the source; auto finds it by its columns."}
    )
    messages_column: str | None = field(default=None, metadata={"help": "Column that holds the list of messages."})
    id_column: str | None = field(default=None, metadata={"help": "Column that holds the conversation's id."})
    user_column: str | None = field(default=None, metadata={"help": "Column that tells users apart."})
    language_column: str | None = field(default=None, metadata={"help": "Column that holds the language."})
    model_column: str | None = field(default=None, metadata={"help": "Column that names the assistant's model."})
    role_key: str | None = field(default=None, metadata={"help": "Key of a message's role."})
    content_key: str | None = field(default=None, metadata={"help": "Key of a message's text."})
    on_bad_input: Literal["error", "skip"] = field(
        default="error",
        metadata={"help": "Cut-off or corrupt files: stop, or use what can be read and count the loss."},
    )
    limit: int | None = field(default=None, metadata={"help": "Use the first conversations of the source only."})
    languages: list[str] = field(
        default_factory=lambda: ["English", "Chinese"],
        metadata={"help": "Languages to keep where the language is known; 'all' keeps every one."},
    )
    max_words: int = field(default=4096, metadata={"help": "Longest history, query and response together, in words."})
    mining_window: int = field(
        default=2, metadata={"help": "Turns ahead that praise may lie; 0: no implicit feedback."}
    )
    mining_threshold: float = field(default=0.5, metadata={"help": "Smallest cosine that counts as the same topic."})
    mining_encoder: str = field(
        default="sentence-transformers/all-MiniLM-L6-v2",
        metadata={
            "help": "Sentence encoder for implicit feedback. The default knows English: texts in other letters than Latin "
            "ones (Chinese) are not compared; take a multilingual one for them."
        },
    )
    mining_max_tokens: int = field(default=128, metadata={"help": "Tokens of a message that the encoder reads."})
    personal_data: Literal["drop", "redact", "keep"] = field(
        default="drop",
        metadata={
            "help": "Turns with personal data in any message: leave out, mask, or keep (credentials are masked then, too)."
        },
    )
    near_duplicates: float = field(
        default=0.9,
        metadata={
            "help": "Similarity of queries and of responses from which turns count as copies; 0: exact copies only."
        },
    )
    test_fraction: float = field(default=0.1, metadata={"help": "Share of users held out for test."})
    seed: int = field(default=0, metadata={"help": "Seed of the split."})
    num_workers: int = field(
        default_factory=lambda: os.cpu_count() or 1, metadata={"help": "Processes; the rows do not depend on it."}
    )


CONFIGS = (BuildDatasetConfig,)


def main(config: BuildDatasetConfig) -> None:
    """Build the dataset and print what came out."""
    from wildreward.dataset_builder.costs import Prices
    from wildreward.dataset_builder.pipeline import build_dataset
    from wildreward.dataset_builder.report import nothing_kept
    from wildreward.dataset_builder.sources.base import Columns

    if not config.source or not config.output:
        raise UserError("build-dataset needs --source and --output")
    report = build_dataset(
        config.source,
        config.output,
        labeler=config.labeler,
        labeler_options=labeler_options(config),
        layout=config.layout,
        columns=Columns(
            config.messages_column,
            config.id_column,
            config.user_column,
            config.language_column,
            config.model_column,
            config.role_key,
            config.content_key,
        ),
        revision=config.revision,
        on_bad_input=config.on_bad_input,
        limit=config.limit,
        languages=[] if config.languages == ["all"] else config.languages,
        max_words=config.max_words,
        mining_window=config.mining_window,
        mining_threshold=config.mining_threshold,
        mining_encoder=config.mining_encoder,
        mining_max_tokens=config.mining_max_tokens,
        personal_data=config.personal_data,
        near_duplicates=config.near_duplicates,
        test_fraction=config.test_fraction,
        seed=config.seed,
        prices=Prices(config.price_prompt, config.price_completion),
        num_workers=config.num_workers,
        max_failed=config.max_failed,
        ask_failed_again=config.ask_failed_again,
    )
    print(summary(report, config.output))
    if reason := nothing_kept(report):
        raise UserError(f"{reason}; {config.output}/work/levels.parquet says what became of each turn")


def labeler_options(config: BuildDatasetConfig) -> dict:
    """The options of the chosen labeler among the config's fields.

    Raises:
        UserError: an option names what another labeler works with.
    """
    asks = ("llm", "transformers")
    options = (("labels", ("file",)), ("base_url", asks), ("min_confidence", ("classifier",)))
    for option, labelers in (*options, ("model", ("classifier", *asks))):
        if getattr(config, option) not in (None, "") and config.labeler not in labelers:
            expected = " or ".join(f"--labeler {name}" for name in labelers)
            raise UserError(f"--{option} has no effect with --labeler {config.labeler}; expected {expected}")
    if config.labeler == "file":
        return {"labels": config.labels}
    if config.labeler == "cues":
        return {"classifier": config.cues_classifier}
    if config.labeler == "classifier":
        return {"model": config.model, "min_confidence": config.min_confidence}
    from wildreward.dataset_builder.labelers.quoting import Budget
    from wildreward.dataset_builder.labelers.retries import Patience

    options = {"model": config.model, "budget": Budget.of(config.shown_tokens)}
    if config.labeler == "transformers" and not config.base_url:
        return options | {"batch_size": config.batch_size}
    options |= {
        "base_url": config.base_url,
        "api_key_env": config.api_key_env,
        "concurrency": config.concurrency,
        "patience": Patience.of(config.timeout),
    }
    if config.labeler == "llm":
        options |= {
            "temperature": config.temperature,
            "extra_body": config.extra_body,
            "max_answer_tokens": config.max_answer_tokens,
        }
    return options


def summary(report: dict, output: str) -> str:
    """A few lines for the terminal."""
    from wildreward.dataset_builder.report import failed_questions, funnel

    lines = [f"{name:<26}{value:>12,}" for name, value in funnel(report)]
    lines += [f"{split:<26}{sum(labels.values()):>12,}" for split, labels in report["splits"].items()]
    lost = {**report["input_lost"], **report["conversations_dropped"]}
    for title, counts in (
        ("not used", lost),
        ("unlabelled", report["unlabelled"]),
        ("left out", report["dropped"]),
        ("refusals not judged", report["refusals_not_judged"]),
    ):
        if counts:
            lines.append(f"{title}: " + ", ".join(f"{reason} {count:,}" for reason, count in counts.items()))
    if failed := failed_questions(report):
        lines.append(f"the endpoint failed on {failed:,} questions; --ask_failed_again asks them again")
    if report["kept"]:
        lines.append(f"dataset: {output}")
    return "\n".join(lines)
