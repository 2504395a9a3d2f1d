"""Tiny models and datasets for the evaluation tests, made in-process from fixed seeds."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

WORDS = [
    "the",
    "a",
    "it",
    "is",
    "not",
    "good",
    "bad",
    "code",
    "list",
    "answer",
    "question",
    "python",
    "wrong",
    "right",
    "thanks",
    "please",
    "why",
    "how",
    "two",
    "four",
]


def tokenizer():
    """A word-level tokenizer with start and end tokens around every text."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = [chr(c) for c in range(33, 127)]
    vocab = {token: i for i, token in enumerate(["<pad>", "<unk>", "<s>", "</s>", *dict.fromkeys(WORDS + letters)])}
    core = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.Split("", "isolated")][:1]
    )
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", vocab["<s>"]), ("</s>", vocab["</s>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


def llama_config(vocab, **sizes):
    from transformers import LlamaConfig

    defaults = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "vocab_size": vocab,
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": 3,
    }
    return LlamaConfig(**{**defaults, **sizes})


def reward_model_folder(folder, seed=0, num_levels=4):
    """A WildReward model folder with a random decoder backbone."""
    from transformers import LlamaModel

    from wildreward.modeling_wildreward import WildRewardForSequenceClassification
    from wildreward.modeling_wildreward.template import install_template
    from wildreward.scoring.scorer import RewardScorer

    torch.manual_seed(seed)
    tok = install_template(tokenizer())
    backbone = Path(folder) / "backbone"
    LlamaModel(llama_config(len(tok))).save_pretrained(backbone)
    tok.save_pretrained(backbone)
    model = WildRewardForSequenceClassification.from_backbone(str(backbone), num_levels=num_levels, head="coral")
    with torch.no_grad():
        model.score.weight.normal_(0, 0.5)
    target = Path(folder) / "reward-model"
    RewardScorer(model, tok).save_pretrained(target)
    return target


def classifier_folder(folder, labels=1, seed=0):
    """A Bradley-Terry classifier folder."""
    from transformers import LlamaForSequenceClassification

    torch.manual_seed(seed)
    tok = tokenizer()
    tok.chat_template = "{% for m in messages %}{{ m.role }} : {{ m.content }} {% endfor %}"
    model = LlamaForSequenceClassification(llama_config(len(tok), num_labels=labels))
    target = Path(folder) / "classifier"
    model.save_pretrained(target)
    tok.save_pretrained(target)
    return target


def text(rng, low=3, high=30):
    return " ".join(rng.choice(WORDS, rng.integers(low, high)))


def rows(n=40, users=12, seed=0):
    """Rows of a feedback dataset, as build-dataset writes them."""
    rng = np.random.default_rng(seed)
    return [
        {
            "id": f"c{i // 2}_turn{i % 2}",
            "conversation_id": f"c{i // 2}",
            "user_id": f"u{(i // 2) % users}",
            "turn": i % 2,
            "language": "English" if i % 3 else "Chinese",
            "history": [{"role": "user", "content": text(rng)}, {"role": "assistant", "content": text(rng)}][
                : 2 * (i % 2)
            ],
            "messages": [{"role": "user", "content": text(rng)}, {"role": "assistant", "content": text(rng)}],
            "label": int(rng.integers(1, 5)),
        }
        for i in range(n)
    ]


def dataset_folder(folder, table=None, split="test"):
    target = Path(folder) / "feedback"
    (target / "data").mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(table or rows()), target / "data" / f"{split}-00000-of-00001.parquet")
    return target


def write_jsonl(path, items):
    path.write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
    return path


def settings(model, output, datasets, benchmarks, options, more):
    from wildreward.evaluation.settings import EvaluateConfig

    what = {"dataset": list(map(str, datasets)), "benchmark": list(benchmarks), "output": output and str(output)}
    return EvaluateConfig(**model, **what, **(options or {}), **more)


def policy_folder(folder, seed=0):
    """A causal language model folder with a chat template."""
    from transformers import LlamaForCausalLM

    torch.manual_seed(seed)
    tok = tokenizer()
    tok.chat_template = (
        "{% for m in messages %}{{ m.role }} : {{ m.content }} {% endfor %}"
        "{% if add_generation_prompt %}assistant : {% endif %}"
    )
    model = LlamaForCausalLM(llama_config(len(tok)))
    with torch.no_grad():
        model.lm_head.weight.normal_(0, 0.3)
    target = Path(folder) / f"policy{seed}"
    model.save_pretrained(target)
    tok.save_pretrained(target)
    return target


def evaluate_model(model, output=None, datasets=(), benchmarks=(), options=None, **more):
    from wildreward.evaluation import results

    return results.evaluate_model(settings({"model": model}, output, datasets, benchmarks, options, more))


def compare_models(models, output=None, datasets=(), benchmarks=(), options=None, **more):
    from wildreward.evaluation import compare

    return compare.compare_models(settings({"compare": list(models)}, output, datasets, benchmarks, options, more))
