"""A toy feedback dataset that a tiny model can learn, shared by the reward training tests."""

import random

from datasets import Dataset

from tests.tiny import reward_model, tokenizer_for
from wildreward.training.reward_config import OrdinalRewardConfig
from wildreward.training.reward_trainer import OrdinalRewardTrainer

GOOD, BAD = ["right", "thanked", "answer"], ["wrong", "again", "please"]


def toy_rows(count: int = 48, seed: int = 0) -> list[dict]:
    """Published-shape rows: the response's words tell the label; two rows a conversation, four a user."""
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        label = rng.randint(1, 4)
        words = [rng.choice(GOOD if rng.random() < (label - 1) / 3 else BAD) for _ in range(rng.randint(3, 40))]
        later = number % 2 == 1
        rows.append(
            {
                "id": f"c{number // 2}_turn{number % 2}",
                "conversation_id": f"c{number // 2}",
                "user_id": f"u{number // 4}",
                "history": [{"role": "user", "content": "the cat"}, {"role": "assistant", "content": "sat"}] * later,
                "messages": [
                    {"role": "user", "content": "an answer please"},
                    {"role": "assistant", "content": " ".join(words)},
                ],
                "label": label,
                "label_confidence": round(rng.uniform(0.3, 1.0), 2),
                "label_source": "explicit",
            }
        )
    return rows


def toy_dataset(count: int = 48, seed: int = 0) -> Dataset:
    return Dataset.from_list(toy_rows(count, seed))


def toy_pairs(count: int = 20, seed: int = 0, margin: float = 0.0) -> Dataset:
    """Good words are better than bad ones; two pairs a prompt."""
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        good, bad = (" ".join(rng.choices(words, k=rng.randint(2, 30))) for words in (GOOD, BAD))
        rows.append({"prompt": f"the cat {number // 2}", "chosen": good, "rejected": bad, "margin": margin})
    return Dataset.from_list(rows)


def config(folder, **settings) -> OrdinalRewardConfig:
    """Everything off that a test does not ask for."""
    chosen = {
        "eval_strategy": "no",
        "save_strategy": "no",
        "logging_steps": 1,
        "learning_rate": 1e-3,
        "per_device_train_batch_size": 8,
        "warmup_steps": 0,
        "disable_tqdm": True,
        "use_cpu": True,
        "bf16": False,
        "seed": 0,
    }
    return OrdinalRewardConfig(str(folder), **(chosen | settings))


def trainer(
    folder,
    kind="llama",
    rows=None,
    model=None,
    eval_rows=None,
    peft_config=None,
    pairs=None,
    eval_pairs=None,
    **settings,
):
    """`rows=[]`: pairs alone."""
    return OrdinalRewardTrainer(
        model=model or reward_model(kind),
        args=config(folder, **settings),
        train_dataset=toy_dataset() if rows is None else None if rows == [] else rows,
        eval_dataset=eval_rows,
        train_pairs=pairs,
        eval_pairs=eval_pairs,
        processing_class=tokenizer_for(kind),
        peft_config=peft_config,
    )


def losses(made: OrdinalRewardTrainer) -> list[float]:
    return [entry["loss"] for entry in made.state.log_history if "loss" in entry]


def weights(made: OrdinalRewardTrainer) -> dict:
    return {name: value.detach().clone() for name, value in made.model.state_dict().items()}
