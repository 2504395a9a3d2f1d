"""What a paid labeler costs: so far, and by the end."""

from dataclasses import dataclass

from wildreward.dataset_builder.labelers.base import Labeler
from wildreward.settings import check_least


@dataclass(frozen=True)
class Prices:
    """Prices of a million tokens, in whatever currency; 0 where nothing is paid."""

    prompt: float = 0.0
    completion: float = 0.0

    def __post_init__(self) -> None:
        check_least(("price_prompt", self.prompt, 0), ("price_completion", self.completion, 0))

    def of(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Cost of so many tokens."""
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1e6

    def progress(self, labeler: Labeler, done: int, total: int | None) -> str:
        """Tokens and cost so far, and the cost projected to `total` questions where prices are known."""
        usage = getattr(labeler, "usage", None)
        if usage is None:
            return ""
        text = f"{usage.prompt_tokens:,} + {usage.completion_tokens:,} tokens"
        cost = self.of(usage.prompt_tokens, usage.completion_tokens)
        if cost and done and total:
            text += f", cost {cost:,.2f} of about {cost * total / done:,.2f}"
        return text
