"""Every option of a build, described once: the command's flags, the Python call, the checks, the comparison on resuming and
the `settings` of the report are derived from `BuildSettings`.
"""

import os
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args, get_type_hints

from wildreward.common.errors import UserError
from wildreward.common.settings import check_range
from wildreward.dataset_builder.labelers.rating import RatingMap, read_map
from wildreward.dataset_builder.privacy import Sought
from wildreward.dataset_builder.sources.layouts import Columns
from wildreward.dataset_builder.sources.marks import NONE, Marks

# Option → its least and largest value.
RANGES = {
    "limit": (1, float("inf")),
    "max_words": (1, float("inf")),
    "mining_window": (0, float("inf")),
    "mining_threshold": (-1, 1),
    "mining_max_tokens": (3, float("inf")),  # an encoder reads a word between two marks
    "near_duplicates": (0, 1),
    "max_failed": (0, 1),
    "price_prompt": (0, float("inf")),
    "price_completion": (0, float("inf")),
    "num_workers": (1, float("inf")),
}
# What no row depends on, and what is compared in another form: the labeler's own settings, the layout's columns.
NOT_COMPARED = frozenset(
    [
        "output",
        "dry_run",
        "num_workers",
        "max_failed",
        "ask_failed_again",
        "concurrency",
        "timeout",
        "batch_size",
        "api_key_env",
        "price_prompt",
        "price_completion",
        "min_confidence",
        "labels",
        "base_url",
        "model",
        "classifier_base",
        "temperature",
        "extra_body",
        "max_answer_tokens",
        "shown_tokens",
        "labeler_options",
        "messages_column",
        "id_column",
        "user_column",
        "language_column",
        "model_column",
        "role_key",
        "content_key",
        "rating_map",
    ]
)
# Options that only some labelers have.
LABELERS_OF = {
    "labels": ("file",),
    "base_url": ("llm", "transformers"),
    "min_confidence": ("classifier",),
    "model": ("classifier", "llm", "transformers"),
}


@dataclass(frozen=True)
class BuildSettings:
    """What to build from what, and how.

    Raises:
        UserError: a value is out of range, or an option has no effect with the labeler.
    """

    hidden_options: ClassVar[tuple[str, ...]] = ("labeler_options",)

    source: str = field(
        default="",
        metadata={
            "help": "Chats: a JSON, JSONL, CSV or parquet file, an export (also as .zip), a folder of them, or a Hub dataset id."
        },
    )
    revision: str | None = field(
        default=None, metadata={"help": "Commit, branch or tag of a Hub dataset; default: its main branch."}
    )
    output: str = field(default="", metadata={"help": "Dataset folder to make, or to go on with."})
    dry_run: bool = field(
        default=False,
        metadata={
            "help": "Read a sample and print what a build would take: the layout of each file, conversations and turns, three "
            "turns as the labeler sees them, and what labels would cost. Writes nothing; needs no --output."
        },
    )
    labeler: Literal["classifier", "llm", "transformers", "file", "rating"] = field(
        default="classifier",
        metadata={
            "help": "Who reads the level of a follow-up. Where a user has rated the answer, the rating is the level, whatever "
            "the labeler reads; rating: nothing else has a level."
        },
    )
    rating_key: str | None = field(
        default=None,
        metadata={
            "help": "Key (or dotted path) of the users' ratings, in the answer's message or else in the row; none: ratings are "
            "not used. Default: looked for under rating, feedback, thumbs, vote, stars, score and others."
        },
    )
    rating_map: str | None = field(
        default=None,
        metadata={
            "help": "What ratings are worth: RATING=LEVEL,… with a level of 1-5 or none, 0..0.4=1 for a range of numbers, or a "
            "JSON file with an object of the same. Default: thumbs, stars, 1 to 10 and words, see docs/chats.md."
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
        metadata={
            "help": "Model for --labeler llm or transformers; for classifier a folder or id that train-labeler made, "
            "instead of the one in the package."
        },
    )
    classifier_base: str = field(
        default="sentence-transformers/all-MiniLM-L6-v2",
        metadata={"help": "Folder or Hub id of all-MiniLM-L6-v2, on which the classifier of the package stands."},
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
    layout: Literal[
        "auto",
        "wildchat",
        "lmsys",
        "sharegpt",
        "messages",
        "chatgpt",
        "claude",
        "openwebui",
        "librechat",
        "arena",
        "opentelemetry",
        "langfuse",
        "lines",
        "exchanges",
    ] = field(default="auto", metadata={"help": "Layout of the source; auto finds each file's by its columns."})
    messages_column: str | None = field(
        default=None, metadata={"help": "Column that holds the list of messages; inside an object: data.messages."}
    )
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
    keep_reasoning: bool = field(
        default=False, metadata={"help": "Leave the model's reasoning in its answers, where a log has it."}
    )
    limit: int | None = field(default=None, metadata={"help": "Use the first conversations of the source only."})
    languages: list[str] = field(
        default_factory=lambda: ["English", "Chinese"],
        metadata={"help": "Languages to keep where the language is known; 'all' keeps every one."},
    )
    max_words: int = field(default=4096, metadata={"help": "Longest history, query and response together, in words."})
    max_history: int = field(default=20, metadata={"help": "Most messages before the query."})
    min_query_words: int = field(default=5, metadata={"help": "Shortest query, in words (Chinese: characters)."})
    min_response_words: int = field(default=10, metadata={"help": "Shortest response, in words."})
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
    drop_flagged: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Keys of flags, such as toxic, redacted or openai_moderation.flagged: turns are left out where one is set "
            "on any message up to the follow-up (or on the row, where messages do not have it)."
        },
    )
    personal_data: Literal["drop", "redact", "keep"] = field(
        default="drop",
        metadata={
            "help": "Turns with personal data in any message: leave out, mask, or keep (credentials are masked then, too)."
        },
    )
    names_model: str = field(
        default="",
        metadata={
            "help": "spaCy model, such as en_core_web_sm, with which Presidio (extra `names`) looks for people's names, which "
            "then count as personal data. It is slow. Default: names are not looked for."
        },
    )
    keep_secrets: bool = field(
        default=False,
        metadata={"help": "Publish keys, tokens and passwords that are found, too. Nobody should need this."},
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
    labeler_options: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "From Python: what the labeler's class takes, over the options above."}
    )

    def __post_init__(self) -> None:
        for name in ("on_bad_input", "personal_data"):
            *others, last = get_args(get_type_hints(type(self))[name])
            if getattr(self, name) not in (*others, last):
                raise UserError(f"--{name} is {getattr(self, name)!r}; expected {', '.join(others)} or {last}")
        if not 0 <= self.test_fraction < 1:
            raise UserError(f"--test_fraction is {self.test_fraction}; expected at least 0 and below 1")
        check_range(*((name, getattr(self, name), *bounds) for name, bounds in RANGES.items()))
        for option, labelers in LABELERS_OF.items():
            if getattr(self, option) not in (None, "") and self.labeler not in labelers:
                expected = " or ".join(f"--labeler {name}" for name in labelers)
                raise UserError(f"--{option} has no effect with --labeler {self.labeler}; expected {expected}")
        languages = [self.languages] if isinstance(self.languages, str) else list(self.languages)
        object.__setattr__(self, "languages", [] if languages == ["all"] else languages)
        flags = [self.drop_flagged] if isinstance(self.drop_flagged, str) else list(self.drop_flagged)
        object.__setattr__(self, "drop_flagged", flags)
        self.ratings  # noqa: B018 - a map that cannot be read is refused here
        if self.names_model and self.personal_data == "keep":
            raise UserError("--names-model has no effect with --personal-data keep; expected drop or redact")
        if self.rating_key == NONE and (self.rating_map or self.labeler == "rating"):
            raise UserError("--rating-key none uses no ratings; --rating-map and --labeler rating need them")

    @property
    def marks(self) -> Marks:
        """Where ratings and flags are."""
        return Marks(self.rating_key, tuple(self.drop_flagged))

    @property
    def sought(self) -> Sought:
        """What is not published."""
        return Sought(not self.keep_secrets, self.personal_data != "keep", self.names_model)

    @property
    def ratings(self) -> RatingMap:
        """What the user says that ratings are worth."""
        return read_map(self.rating_map)

    @property
    def wants_ratings(self) -> bool:
        """The user counts on them: what cannot be read is an error then, and else a warning."""
        return bool(self.labeler == "rating" or self.rating_map or self.rating_key not in (None, NONE))

    @property
    def columns(self) -> Columns:
        """The names of columns and keys that the user gave."""
        columns = (self.messages_column, self.id_column, self.user_column, self.language_column, self.model_column)
        return Columns(*columns, self.role_key, self.content_key)

    def compared(self) -> dict[str, Any]:
        """The options that the rows depend on, by name; the labeler's come from the labeler itself."""
        return {name: value for name, value in vars(self).items() if name not in NOT_COMPARED}

    def labeler_arguments(self) -> dict[str, Any]:
        """What the class of the chosen labeler takes."""
        if self.labeler == "rating":
            return self.labeler_options
        if self.labeler == "file":
            return {"labels": self.labels} | self.labeler_options
        if self.labeler == "classifier":
            names = ("model", "min_confidence", "classifier_base")
            arguments = {name.replace("classifier_base", "base_model"): getattr(self, name) for name in names}
            return arguments | self.labeler_options
        from wildreward.common.llm.client import RetryPolicy
        from wildreward.common.llm.quoting import Budget

        arguments = {"model": self.model, "budget": Budget.of(self.shown_tokens)}
        if self.labeler == "transformers" and not (self.base_url or self.labeler_options.get("base_url")):
            return arguments | {"batch_size": self.batch_size} | self.labeler_options
        arguments |= {
            "base_url": self.base_url,
            "api_key_env": self.api_key_env,
            "concurrency": self.concurrency,
            "retry_policy": RetryPolicy.of(self.timeout),
        }
        if self.labeler == "llm":
            sampling = ("temperature", "extra_body", "max_answer_tokens")
            arguments |= {name: getattr(self, name) for name in sampling}
        return arguments | self.labeler_options
