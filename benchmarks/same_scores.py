"""One table: the same conversations through everything that gives a reward model's score; the largest difference of a score.

    python benchmarks/same_scores.py [--chats 200] [--layers 6]

The chats are ShareGPT's, their messages cut to --characters; the model is SmolLM2-135M-Instruct's first layers with a random
coral head (`--layers 30` takes all of them). Every way is compared with `RewardScorer.score`, in float32. vLLM runs in an
environment of its own, see benchmarks/engines.py.
"""

import argparse
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx2
import torch
from engines import Chat, free_port, save_reward_model, scores_of, started, vllm_server
from feedback_labeler import records
from record import record
from transformers.utils.logging import disable_progress_bar

BATCH = 8


def read_chats(count: int, characters: int) -> list[Chat]:
    """The first chats that end with an answer, at most six messages of each."""
    chats: list[Chat] = []
    for row in records():
        turns = row["conversations"][:6]
        turns = turns[: len(turns) // 2 * 2]
        if not turns or [turn["from"] for turn in turns] != ["human", "gpt"] * (len(turns) // 2):
            continue
        roles = ("user", "assistant")
        chat = [{"role": roles[i % 2], "content": turn["value"][:characters]} for i, turn in enumerate(turns)]
        if all(message["content"].strip() for message in chat):
            chats.append(chat)
        if len(chats) == count:
            return chats
    raise SystemExit(f"the file has only {len(chats)} such chats")


@torch.inference_mode()
def in_transformers(folder: str, chats: list[Chat], remote_code: bool = False) -> list[float]:
    """`logits[:, 0]` of what AutoModelForSequenceClassification loads, in padded batches."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=1, trust_remote_code=remote_code
    ).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    values = []
    for start in range(0, len(chats), BATCH):
        texts = [tokenizer.apply_chat_template(chat, tokenize=False) for chat in chats[start : start + BATCH]]
        batch = tokenizer(texts, padding=True, return_tensors="pt", add_special_tokens=False)
        values += model(**batch).logits[:, 0].tolist()
    return values


def asked(url: str, body: dict[str, Any]) -> Any:
    answer = httpx2.post(url, json=body, timeout=3600)
    answer.raise_for_status()
    return answer.json()


def through_our_server(folder: str, chats: list[Chat], log: Path) -> dict[str, list[float]]:
    from wildreward.scoring.reward_text import render_reward_text

    port = free_port()
    command = [sys.executable, "-m", "wildreward", "serve", "--model", folder, "--port", str(port)]
    with started(command, f"http://127.0.0.1:{port}", log) as url:
        query = {"query": [render_reward_text(chat) for chat in chats]}
        return {
            "our server, POST /score": asked(f"{url}/score", {"messages": chats})["scores"],
            "our server, OpenRLHF's request": asked(f"{url}/get_reward", query)["rewards"],
        }


def through_vllm(plain: str, chats: list[Chat], log: Path, threads: int) -> list[float]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(plain, trust_remote_code=False)
    texts = [tokenizer.apply_chat_template(chat, tokenize=False) for chat in chats]
    with vllm_server(plain, log, "--runner", "pooling", threads=threads) as url:
        return [row["probs"][0] for row in asked(f"{url}/classify", {"model": "m", "input": texts})["data"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chats", type=int, default=200)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--characters", type=int, default=300)
    parser.add_argument("--threads", type=int, default=1, help="more only on an idle machine")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    disable_progress_bar()
    torch.set_num_threads(options.threads)
    from wildreward import RewardFunction, RewardScorer

    chats = read_chats(options.chats, options.characters)
    with tempfile.TemporaryDirectory() as temporary:
        folder, plain = f"{temporary}/reward-model", f"{temporary}/plain"
        save_reward_model(folder, plain, chats, options.layers)
        reference = RewardScorer.from_pretrained(folder).score(chats)
        found = {"AutoModel, remote code": in_transformers(folder, chats, remote_code=True)}
        trl = RewardFunction(folder)(prompts=[chat[:-1] for chat in chats], completions=[chat[-1:] for chat in chats])
        found["TRL, RewardFunction"] = trl
        found["TRL, the export as a reward model"] = scores_of(plain, in_transformers(plain, chats))
        found |= through_our_server(folder, chats, Path(temporary) / "serve.log")
        logits = through_vllm(plain, chats, Path(temporary) / "vllm.log", options.threads)
        found["vLLM, POST /classify of the export"] = scores_of(plain, logits)
    low, high = min(reference), max(reference)
    print(f"{len(chats)} conversations, scores from {low:.2f} to {high:.2f}; largest difference from RewardScorer")
    rows = []
    for way, scores in found.items():
        difference = max(abs(one - other) for one, other in zip(reference, scores, strict=True))
        print(f"{way:<38}{difference:.1e}", flush=True)
        text = f"largest difference of {len(chats)} scores from RewardScorer's: {way}"
        rows.append({"measure": text, "ours": f"{difference:.1e}", "alternative": "", "ratio": ""})
        assert difference < 1e-4, f"{way}: scores differ by {difference}"
    record("same_scores", rows)


if __name__ == "__main__":
    main()
