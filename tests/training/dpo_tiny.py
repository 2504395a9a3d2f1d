"""A tiny policy, made in-process and saved to a folder, and rewards for it: shared by the online DPO tests."""

import random
from pathlib import Path

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WORDS = [f"{letter}{i}" for letter in "abcdefgh" for i in range(6)]
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}> {{ m.content }} <end> {% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)


def make_tokenizer():
    special = ["<pad>", "<unk>", "<end>", "<user>", "<assistant>", "<system>"]
    vocabulary = {token: i for i, token in enumerate([*special, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="<end>",
        additional_special_tokens=special[3:],
        chat_template=TEMPLATE,
        padding_side="left",
    )


def make_policy(folder, seed=0):
    """A two-layer Llama with spread-out logits, so that completions differ and some end by themselves."""
    tokenizer = make_tokenizer()
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        initializer_range=0.3,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(Path(folder))


def make_prompts(count=8, conversational=True):
    texts = [" ".join(WORDS[(i * 5 + j) % len(WORDS)] for j in range(2 + i % 3)) for i in range(count)]
    if not conversational:
        return Dataset.from_dict({"prompt": texts})
    return Dataset.from_dict({"prompt": [[{"role": "user", "content": text}] for text in texts]})


def share_of_a(prompts, completions, **kwargs):
    """Share of words that start with a or b: a reward that a policy can learn."""
    texts = [c if isinstance(c, str) else c[0]["content"] for c in completions]
    return [sum(w[0] in "ab" for w in text.split()) / max(1, len(text.split())) for text in texts]


def settings(folder, **changes):
    """Settings of a short CPU run in which every step is logged."""
    from wildreward.training import BestOfNDPOConfig

    values = {
        "output_dir": str(folder),
        "use_cpu": True,
        "bf16": False,
        "num_generations": 4,
        "per_device_train_batch_size": 8,
        "max_completion_length": 6,
        "max_steps": 1,
        "logging_steps": 1,
        "learning_rate": 0.05,
        "lr_scheduler_type": "constant",
        "optim": "sgd",
        "max_grad_norm": 0.0,
        "choose_truncated": True,
        "gradient_checkpointing": False,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "seed": 3,
    }
    return BestOfNDPOConfig(**{**values, **changes})


def fixed_completion(prompt_ids, index):
    """Token ids that depend on nothing but the prompt and the position among its completions."""
    draw = random.Random(f"{prompt_ids} {index}")
    return [draw.randrange(6, 6 + len(WORDS)) for _ in range(draw.randint(2, 5))] + [2]


def fixed_trainer(*args, **kwargs):
    """A `BestOfNDPOTrainer` whose completions are `fixed_completion`s; everything after sampling is the real thing."""
    from wildreward.training import BestOfNDPOTrainer

    class FixedCompletions(BestOfNDPOTrainer):
        def _generate_single_turn(self, prompt_ids, images, multimodal_fields):
            per_prompt = self.num_generations if self.model.training else self.num_generations_eval
            return [fixed_completion(ids, i % per_prompt) for i, ids in enumerate(prompt_ids)]

    return FixedCompletions(*args, **kwargs)


def weights_of(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def curve(trainer, *names):
    """The logged values of each step."""
    rows = [row for row in trainer.state.log_history if "loss" in row]
    return [[row["step"], *(row[name] for name in names or ("loss", "reward", "kl"))] for row in rows]
