"""Scores from a reward model on this machine or behind a URL, and the server that gives them.

protocol.py          conversations in, scores out: what every source is
load.py              any model by its name: local.py (a folder or Hub id) or remote.py (URLs)
remote.py            batches spread over servers; endpoint.py: one attempt at one; wire_formats.py: how each kind is asked
own_code.py          a model that comes with code of its own; implicit.py: a policy beside its reference
classifier.py        what a plain classifier reads and what its logits say, here or behind an engine
scorer.py            RewardScorer: messages to token ids to scores; reward_text.py: the same input as plain text
reward_function.py   a source as the callable that trainers take
policy_text.py       what a policy read and wrote, with its special tokens, as messages
limited_template.py  chat templates that come with a model, rendered within bounds (template_child.py)
score_command.py     data to scores: score_input.py reads it, selecting.py chooses by score, score_output.py writes it
server/              the scoring server; *_command.py: score, serve, export, convert
"""

from wildreward.common.lazy import lazy_names

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "RewardFunction": ".reward_function",
        "RewardScorer": ".scorer",
        "RewardSourceError": ".protocol",
        "load_scorer": ".load",
    },
)
