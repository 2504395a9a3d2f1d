"""Memory and speed of a decoder's recipe on one GPU, with random weights of its shape, beside what `estimate.py` says.

    python benchmarks/recipe_memory.py recipes/lora-24gb.yaml

Every row is as long as the recipe allows, so this is the worst case. Two steps warm up, then `--steps` are timed.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch
from estimate import BYTES, GIB, estimate, printed_estimate, shape_of
from train_reward import Tokenizer, make_rows
from transformers import AutoModel, TrainerCallback

from wildreward.commands import parse
from wildreward.modeling_wildreward import WildRewardConfig, WildRewardForSequenceClassification
from wildreward.training.model_setup import lora
from wildreward.training.reward_command import CONFIGS
from wildreward.training.reward_trainer import OrdinalRewardTrainer

WARM_UP = 2


class Clock(TrainerCallback):
    """Notes the time at the end of every step."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step_end(self, *_, **__) -> None:
        torch.cuda.synchronize()
        self.times.append(time.perf_counter())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument(
        "--rows-per-step", type=int, default=8, help="instead of the recipe's; enough to fill tokens_per_device"
    )
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("this measures a GPU's memory, and there is no NVIDIA GPU here")
    with tempfile.TemporaryDirectory() as folder:
        flags = ["--config", str(options.recipe), "--output-dir", folder, "--rows-per-step", str(options.rows_per_step)]
        flags += ["--max-steps", str(WARM_UP + options.steps), "--eval-strategy", "no", "--save-strategy", "no"]
        flags += ["--report-to", "none", "--disable-tqdm", "True"]
        arguments, config = parse("train-reward", CONFIGS, flags)
        if config.max_length is None or arguments.frozen_layers or arguments.pooling not in (None, "last"):
            parser.error("expected the recipe of a decoder with max_length, pooling last and no frozen layers")
        shape = shape_of(arguments)
        torch.manual_seed(0)
        with torch.device("cuda"):
            backbone = AutoModel.from_config(
                shape,
                dtype=getattr(torch, arguments.dtype),
                attn_implementation=arguments.attn_implementation,
                trust_remote_code=False,
            )
            model = WildRewardForSequenceClassification(
                WildRewardConfig(
                    text_config=backbone.config, pooling="last", max_length=config.max_length, pad_token_id=0,
                    attn_implementation=arguments.attn_implementation,
                ),
                backbone=backbone,
            )  # fmt: skip
            model.score.to(backbone.dtype)
        rows = make_rows([config.max_length] * options.rows_per_step, shape.vocab_size, 0)
        clock = Clock()
        trainer = OrdinalRewardTrainer(
            model, config, rows, processing_class=Tokenizer.collator(), peft_config=lora(arguments.lora_rank, arguments.lora_alpha, arguments.lora_dropout),
            callbacks=[clock],
        )  # fmt: skip
        torch.cuda.reset_peak_memory_stats()
        trainer.train()
    seconds = (clock.times[-1] - clock.times[WARM_UP - 1]) / options.steps
    tokens = options.rows_per_step * config.max_length
    expected = estimate(arguments, config)
    print(f"{options.recipe.name} on {torch.cuda.get_device_name()}, weights in {BYTES[arguments.dtype]} bytes")
    print(printed_estimate(expected))
    print(
        f"measured     {torch.cuda.max_memory_allocated() / GIB:.1f} GiB at most, of {expected.total / GIB:.1f} estimated"
    )
    print(
        f"             {tokens / seconds:,.0f} tokens/s, {seconds / options.rows_per_step:.2f} s a row of {config.max_length:,}"
    )


if __name__ == "__main__":
    main()
