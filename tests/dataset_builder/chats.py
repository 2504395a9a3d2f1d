"""Small chats for the tests of the dataset builder."""

import json
import random
from pathlib import Path

TOPICS = ("gardens", "sailing boats", "tax returns", "chess openings", "bread baking", "old castles", "bird songs")
FOLLOW_UPS = (
    ("Thanks, that is exactly what I needed!", 5),
    ("Great, now make the second paragraph a bit longer please", 4),
    ("That is wrong, you forgot the second half of the question", 2),
    ("No, this is useless, you never listen to me", 1),
    ("What is the capital of the country next to it?", 3),
    ("Please also write about the weather there", 3),
)


def chat(number: int, turns: int = 3) -> tuple[list[dict], list[int]]:
    """Messages with `turns` turns that have a follow-up, and the level of each."""
    draw = random.Random(number)
    topic = TOPICS[number % len(TOPICS)]
    messages = [{"role": "user", "content": f"Please tell me something number {number} about {topic} today"}]
    levels = []
    for turn in range(turns):
        words = " ".join(draw.choice(TOPICS) for _ in range(12))
        messages.append(
            {"role": "assistant", "content": f"Here is answer {turn} about {topic} for chat {number}: {words}."}
        )
        text, level = draw.choice(FOLLOW_UPS)
        messages.append({"role": "user", "content": f"{text} ({number}.{turn})"})
        levels.append(level)
    return messages, levels


def write_chats(folder: Path, count: int, *, users: int = 20, turns: int = 3) -> tuple[Path, Path]:
    """A JSONL log and a labels file that fits it."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, labels = [], []
    for number in range(count):
        messages, levels = chat(number, turns)
        rows.append({"id": f"chat{number}", "user": f"user{number % users}", "messages": messages})
        labels += [{"id": f"chat{number}_turn{turn}", "level": level} for turn, level in enumerate(levels)]
    write_jsonl(folder / "chats.jsonl", rows)
    write_jsonl(folder / "labels.jsonl", labels)
    return folder / "chats.jsonl", folder / "labels.jsonl"


def write_jsonl(path: Path, rows: list) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def conversation(*texts: str, **fields) -> "Conversation":  # noqa: F821
    """A conversation whose messages are `texts`, the user first."""
    from wildreward.common.llm.quoting import ChatMessage
    from wildreward.dataset_builder.records import Conversation

    roles = ("user", "assistant")
    messages = [ChatMessage(roles[place % 2], text) for place, text in enumerate(texts)]
    defaults = {"source_id": "c", "user_id": None, "language": None, "model": None, "conversation_id": "c"}
    return Conversation(messages=messages, **{"num_turns_within_limit": 1000, **defaults, **fields})
