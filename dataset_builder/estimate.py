"""What a build of so many conversations takes: requests, tokens, GPU hours, disk, processor hours.

    python -m wildreward.dataset_builder.estimate --dataset runs/sample --conversations 4800000 \
        --prompt-speed 20000 --completion-speed 2500 --gpus 8

Everything but the speeds of the GPU is measured: on a dataset folder that was built from a sample of the source with its
`work/` folder still there, and on the prompts that the `llm` labeler makes of the sample's turns.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from wildreward.bundled import MINILM
from wildreward.dataset_builder.parts import read_part
from wildreward.dataset_builder.turns import extract, request_for
from wildreward.errors import UserError
from wildreward.files import read_json

COMPLETION_TOKENS = 40


@dataclass(frozen=True)
class Measured:
    """What a sample has shown, for each conversation, turn or request."""

    turns: float
    asked: float
    prompt_tokens: float
    completion_tokens: float
    judged: float
    kept: float
    work_bytes: float
    dataset_bytes: float
    seconds: float


def measure(dataset: Path, tokenizer: Any, prompts: int = 400) -> Measured:
    """Take the figures from a finished dataset folder.

    Raises:
        UserError: it is none, or its `work/` is gone.
    """
    if not (dataset / "build_report.json").is_file():
        raise UserError(f"{dataset} has no build_report.json; expected a folder that build-dataset finished")
    if not any((dataset / "work" / "conversations").glob("*.parquet")):
        raise UserError(f"{dataset}/work/conversations is gone or empty; build the sample again and keep its work/")
    report = read_json(dataset / "build_report.json")
    conversations, turns = report["conversations"], report["turns"]
    asked = turns - sum(report["dropped"].get(reason, 0) for reason in ("language", "too_long"))
    judged = sum(report["refusals"].values())
    prompt_tokens, completion_tokens = mean_prompt_tokens(dataset, tokenizer, prompts), float(COMPLETION_TOKENS)
    if report["requests"]:  # what a question took in the end, all attempts together
        prompt_tokens = report["prompt_tokens"] / (asked + judged)
        completion_tokens = report["completion_tokens"] / (asked + judged)
    work = sum(path.stat().st_size for path in (dataset / "work").rglob("*") if path.is_file())
    return Measured(
        turns=turns / conversations,
        asked=asked / conversations,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        judged=judged / conversations,
        kept=report["kept"] / conversations,
        work_bytes=work / conversations,
        dataset_bytes=sum(report["bytes"].values()) / conversations,
        seconds=sum(seconds for stage, seconds in report["seconds"].items() if stage != "label") / conversations,
    )


def mean_prompt_tokens(dataset: Path, tokenizer: Any, count: int) -> float:
    """Mean length of the `llm` labeler's prompts for the first turns of each of the sample's parts."""
    from wildreward.dataset_builder.labelers.prompts import chat_messages, request_record
    from wildreward.dataset_builder.labelers.quoting import Budget

    parts = sorted((dataset / "work" / "conversations").glob("*.parquet"))
    lengths = []
    for part in parts:
        turns = (turn for turn in extract(read_part(part), []) if turn.dropped is None)
        for turn in islice(turns, max(1, count // len(parts))):
            messages = chat_messages("feedback", request_record(request_for(turn, "feedback"), Budget()))
            text = "\n".join(message["content"] for message in messages)
            lengths.append(len(tokenizer(text, add_special_tokens=False)["input_ids"]))
    return sum(lengths) / len(lengths)


def project(
    measured: Measured, *, conversations: int, prompt_speed: float, completion_speed: float, gpus: int
) -> dict[str, float]:
    """Totals for `conversations`. Speeds are tokens a second on one GPU, prefill and generation."""
    requests = conversations * (measured.asked + measured.judged)
    prompt, completion = requests * measured.prompt_tokens, requests * measured.completion_tokens
    gpu_seconds = prompt / prompt_speed + completion / completion_speed
    ledger = requests * 230
    return {
        "conversations": conversations,
        "turns": conversations * measured.turns,
        "requests": requests,
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "gpu_hours": gpu_seconds / 3600,
        "hours_on_all_gpus": gpu_seconds / 3600 / gpus,
        "requests_per_second": requests / (gpu_seconds / gpus),
        "work_gb": (conversations * measured.work_bytes + ledger) / 1e9,
        "dataset_gb": conversations * measured.dataset_bytes / 1e9,
        "instances": conversations * measured.kept,
        "hours_without_labels": conversations * measured.seconds / 3600,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the sample's figures and the projection as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", type=Path, required=True, help="folder built from a sample")
    parser.add_argument("--conversations", type=int, default=4_800_000)
    parser.add_argument("--prompt-speed", type=float, default=20_000, help="prompt tokens a second on one GPU")
    parser.add_argument("--completion-speed", type=float, default=2_500, help="generated tokens a second on one GPU")
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--tokenizer", default=MINILM)
    options = parser.parse_args(arguments)
    for name in ("conversations", "prompt_speed", "completion_speed", "gpus"):
        if getattr(options, name) <= 0:
            parser.error(f"--{name.replace('_', '-')} is {getattr(options, name)}; expected above 0")
    from transformers import AutoTokenizer
    from transformers.utils import logging

    from wildreward.bundled import resolve

    logging.set_verbosity_error()
    measured = measure(
        options.dataset, AutoTokenizer.from_pretrained(resolve(options.tokenizer), trust_remote_code=False)
    )
    totals = project(
        measured,
        conversations=options.conversations,
        prompt_speed=options.prompt_speed,
        completion_speed=options.completion_speed,
        gpus=options.gpus,
    )
    rounded = {key: round(value, 1) for key, value in totals.items()}
    print(json.dumps({"for_each_conversation": asdict(measured), "in_all": rounded}, indent=2))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
