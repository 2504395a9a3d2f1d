"""A reward model folder given to TRL's trainers by its path, in a process that cannot import this package."""

import json
import subprocess
import sys

import pytest
from transformers import AutoModelForCausalLM, LlamaConfig

from tests.tiny import SHAPE, decoder_tokenizer, reward_model, tokenizer_for
from wildreward import RewardScorer
from wildreward.modeling_wildreward.template import encode

POLICY_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

SCRIPT = """
import json, sys
sys.modules["wildreward"] = None  # importing it would fail
import torch
from datasets import Dataset
trainer_name, folder = sys.argv[1:]
if trainer_name == "OnlineDPO":
    from trl.experimental.online_dpo import OnlineDPOConfig as Config, OnlineDPOTrainer as Trainer
    from transformers import AutoTokenizer
    extra = {"max_new_tokens": 8}
    arguments = {
        "processing_class": AutoTokenizer.from_pretrained(folder + "/policy"),
        "reward_processing_classes": [AutoTokenizer.from_pretrained(folder + "/reward-model"), None],
    }
else:
    import trl
    Config, Trainer = getattr(trl, trainer_name + "Config"), getattr(trl, trainer_name + "Trainer")
    extra, arguments = {"max_completion_length": 8, "num_generations": 2}, {}
prompts = [[{"role": "system", "content": "be right"}, {"role": "user", "content": f"the cat {i}"}] for i in range(4)]
seen = {"conversations": [], "ids": [], "scores": []}

def recorder(prompts, completions, **kwargs):
    for prompt, completion in zip(prompts, completions):
        completion = completion if isinstance(completion, list) else [{"role": "assistant", "content": completion}]
        seen["conversations"].append(list(prompt) + completion)
    return [0.0] * len(prompts)

trainer = Trainer(
    model=folder + "/policy",
    reward_funcs=[folder + "/reward-model", recorder],
    args=Config(
        output_dir=folder + "/out", max_steps=1, per_device_train_batch_size=2, report_to="none", use_cpu=True, bf16=False,
        trust_remote_code=True, model_init_kwargs={"trust_remote_code": True, "dtype": "float32"},
        save_strategy="no", **extra,
    ),
    train_dataset=Dataset.from_dict({"prompt": prompts}),
    **arguments,
)

def hook(module, args, kwargs, output):
    for row, mask, score in zip(kwargs["input_ids"], kwargs["attention_mask"], output.logits):
        seen["ids"].append(row[mask.bool()].tolist())
        seen["scores"].append(score.item())

trainer.reward_funcs[0].register_forward_hook(hook, with_kwargs=True)
trainer.train()
json.dump(seen, open(folder + "/seen.json", "w"))
"""


@pytest.mark.parametrize("trainer", ["GRPO", "RLOO", "OnlineDPO"])
def test_same_ids_and_scores_as_the_scorer(trainer, tmp_path):
    scorer = RewardScorer(reward_model("llama"), tokenizer_for("llama"))
    scorer.save_pretrained(tmp_path / "reward-model")
    policy_tokenizer = decoder_tokenizer()
    policy_tokenizer.chat_template = POLICY_TEMPLATE
    AutoModelForCausalLM.from_config(LlamaConfig(**SHAPE, pad_token_id=0)).save_pretrained(tmp_path / "policy")
    policy_tokenizer.save_pretrained(tmp_path / "policy")
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, script, trainer, str(tmp_path)], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-3000:]
    seen = json.loads((tmp_path / "seen.json").read_text())
    assert len(seen["conversations"]) == len(seen["scores"]) >= 2
    for conversation, ids, score in zip(seen["conversations"], seen["ids"], seen["scores"], strict=True):
        assert ids == encode(scorer.tokenizer, conversation, 4096).input_ids
        assert score == pytest.approx(scorer.score([conversation])[0], abs=1e-4)
