"""A run of online DPO in a process of its own: `python -m tests.training.dpo_child KIND POLICY FOLDER`."""

import json
import os
import sys

import torch
from transformers import TrainerCallback

from tests.training.dpo_tiny import fixed_trainer, make_prompts, settings, share_of_a, weights_of


class LogToFile(TrainerCallback):
    """Each step's log as a line, flushed to disk, so that a parent can watch."""

    def __init__(self, path):
        self.path = path

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" in logs:
            with open(self.path, "a") as handle:
                handle.write(json.dumps({"step": state.global_step, **logs}) + "\n")


def masks_some(prompts, completions, **kwargs):
    """Prompts of two words are masked, so that processes keep different numbers of pairs."""
    rewards = share_of_a(prompts, completions)
    return [0.5 if len(p[-1]["content"].split()) == 2 else r for p, r in zip(prompts, rewards, strict=True)]


def fixed_run(policy, folder):
    """Two steps of eight prompts with fixed completions, on however many processes there are."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    args = settings(
        folder,
        per_device_train_batch_size=16 // processes,
        gradient_accumulation_steps=2,
        max_steps=2,
        ddp_backend="gloo" if processes > 1 else None,
    )
    trainer = fixed_trainer(policy, masks_some, args, make_prompts(16))
    trainer.train()
    if trainer.accelerator.is_main_process:
        rows = [row for row in trainer.state.log_history if "loss" in row]
        torch.save(
            {"weights": weights_of(trainer.accelerator.unwrap_model(trainer.model)), "log": rows}, f"{folder}/out"
        )


def failing_source_run(policy, folder):
    """The reward source of the second process only is gone: both must stop, none may wait for the other."""

    def reward(prompts, completions, trainer_state, **kwargs):
        if os.environ["RANK"] == "1" and trainer_state.global_step == 1:
            raise ConnectionRefusedError("gone on one process")
        return share_of_a(prompts, completions)

    args = settings(folder, max_steps=3, ddp_backend="gloo")
    fixed_trainer(policy, reward, args, make_prompts(16)).train()


def sampled_trainer(policy, folder, reward=share_of_a, **changes):
    """Six steps over three epochs with real sampling, a checkpoint every third step."""
    from wildreward.training import BestOfNDPOTrainer

    values = {
        "max_steps": 6,
        "per_device_train_batch_size": 16,
        "optim": "adamw_torch",
        "learning_rate": 1e-2,
        "save_strategy": "steps",
        "save_steps": 3,
    }
    args = settings(folder, **{**values, **changes})
    return BestOfNDPOTrainer(policy, reward, args, make_prompts(8), callbacks=[LogToFile(f"{folder}.log")])


if __name__ == "__main__":
    kind, *arguments = sys.argv[1:]
    if kind == "sampled":
        sampled_trainer(*arguments).train()
    else:
        fixed_run(*arguments)
        failing_source_run(*arguments)
