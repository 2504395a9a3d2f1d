"""Contrast pairs: answers that users liked against broken ones, a preference dataset made from a feedback dataset."""

from collections.abc import Sequence

import numpy as np
from datasets import Dataset, Features, List, Value

from wildreward.common.chat import Message
from wildreward.common.contrast import KINDS, Answered, broken_answers
from wildreward.common.errors import UserError
from wildreward.modeling_wildreward.ordinal import positive_from
from wildreward.training.reward_arguments import TrainRewardArguments
from wildreward.training.reward_config import OrdinalRewardConfig
from wildreward.training.reward_data import load_rows, owner_of, owners, row_id, row_messages

_MESSAGES = List({"role": Value("string"), "content": Value("string")})
FEATURES = Features(
    {
        "id": Value("string"),
        "prompt": _MESSAGES,
        "chosen": _MESSAGES,
        "rejected": _MESSAGES,
        "kind": Value("string"),
    }
)


def contrast_splits(
    arguments: TrainRewardArguments, config: OrdinalRewardConfig, num_levels: int, *splits: Dataset
) -> list[Dataset]:
    """Contrast pairs of the users of each split of the command's dataset, made of their rows alone.

    Args:
        arguments, config: the command's.
        num_levels: labels are 1..num_levels.
        splits: prepared features.
    """
    names = (arguments.dataset, arguments.train_split, arguments.dataset_config, arguments.dataset_revision)
    with config.main_process_first(desc="contrast pairs"):
        rows = load_rows(*names)
        groups = np.asarray(owners(rows), dtype=object)
        more = (arguments.contrast_kinds, arguments.contrast_share, config.seed, num_levels, config.keep_reasoning)
        of_split = (rows.select(np.flatnonzero(np.isin(groups, split["group"][:]))) for split in splits)
        return [contrast_pairs(part, *more) for part in of_split]


def contrast_pairs(
    rows: Dataset,
    kinds: Sequence[str] = tuple(KINDS),
    share: float = 1.0,
    seed: int = 0,
    num_levels: int = 4,
    keep_reasoning: bool = False,
) -> Dataset:
    """Pairs of an answer that its user liked (a label of the upper half) and a broken one, in TRL's preference format.

    A rejected answer is on neither side, so no pair contradicts a label.

    Args:
        rows: of a feedback dataset: `history`, `messages`, `label`. All of them lend their answers to others' questions.
        kinds, share, seed: see `wildreward.common.contrast.broken_answers`.
        num_levels: labels are 1..num_levels.
        keep_reasoning: see `wildreward.common.chat`.

    Returns:
        `id` (`<id of the row>/<kind>`), `prompt`, `chosen`, `rejected` (messages) and `kind`.

    Raises:
        UserError: rows without messages; a chat that cannot be read, naming its row.

    Examples:
        ```python
        rows = load_dataset("my-feedback", split="train")
        pairs = contrast_pairs(rows, share=2, seed=0)
        trainer = OrdinalRewardTrainer("sentence-transformers/all-MiniLM-L6-v2", train_dataset=rows, train_pairs=pairs)
        ```
    """
    if "messages" not in rows.column_names:
        raise UserError(
            f"contrast pairs are made of `messages`, and the dataset has the columns {', '.join(sorted(rows.column_names))}; "
            "use rows with messages, or set --contrast-share 0"
        )
    chats: list[list[Message]] = []
    answered: list[Answered] = []
    liked: list[int] = []
    for index, row in enumerate(rows.with_format(None)):
        chat = row_messages(row, name := row_id(row, index), keep_reasoning)
        if len(chat) < 2 or chat[-1]["role"] != "assistant":
            continue  # tokenizing tells of it
        if row.get("label") is not None and row["label"] >= positive_from(num_levels):
            liked.append(len(chats))
        query = next((message["content"] for message in reversed(chat) if message["role"] == "user"), "")
        refused = row.get("label_source") == "refusal"
        answer = chat[-1]["content"]
        answered.append(Answered(name, owner_of(row, name), query, answer, row.get("language"), may_refuse=refused))
        chats.append(chat)
    pairs = [
        {
            "id": f"{answered[place].id}/{kind}",
            "prompt": chats[place][:-1],
            "chosen": chats[place][-1:],
            "rejected": [{"role": "assistant", "content": text}],
            "kind": kind,
        }
        for place, kind, text in broken_answers(answered, liked, kinds, share, seed)
    ]
    return Dataset.from_dict({name: [pair[name] for pair in pairs] for name in FEATURES}, features=FEATURES)
