"""`train-dpo` with TRL's two ways of sampling through vLLM, in vLLM's own environment."""

import json
import subprocess

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.engines import ROOT, vllm_python, vllm_server, vllm_variables
from tests.tiny import decoder_tokenizer, reward_model
from tests.training.dpo_tiny import make_prompts, make_tokenizer
from wildreward.scoring.scorer import RewardScorer

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1800)]
FLAGS = """--num-generations 4 --num-generations-eval 2 --per-device-train-batch-size 8 --per-device-eval-batch-size 4
--max-completion-length 6 --choose-truncated True --logging-steps 1 --report-to none --use-cpu True --bf16 False
--gradient-checkpointing False --disable-tqdm True --learning-rate 1e-2 --held-out-prompts 4 --max-steps 2
--save-strategy no --use-vllm True --vllm-max-model-length 64 --vllm-gpu-memory-utilization 0.1"""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A tiny policy (heads of 32, from which on vLLM's attention knows them), a reward model and prompts."""
    folder = tmp_path_factory.mktemp("inputs")
    tokenizer = make_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=128,
        initializer_range=0.3,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(folder / "policy")
    tokenizer.save_pretrained(folder / "policy")
    RewardScorer(reward_model("llama"), decoder_tokenizer()).save_pretrained(folder / "rm")
    with open(folder / "chats.jsonl", "w") as handle:
        for messages in make_prompts(14)["prompt"]:
            handle.write(json.dumps({"messages": [*messages, {"role": "assistant", "content": "c1"}]}) + "\n")
    return folder


def train(inputs, output, *more):
    command = [vllm_python(), "-m", "wildreward", "train-dpo", "--model", str(inputs / "policy")]
    command += ["--reward-model", str(inputs / "rm"), "--dataset", str(inputs / "chats.jsonl")]
    command += ["--output-dir", str(output), *FLAGS.split(), *more]
    return subprocess.run(command, capture_output=True, text=True, env=vllm_variables(), cwd=ROOT)


@pytest.mark.skipif(
    torch.cpu._is_avx512_supported(), reason="vLLM repacks weights on AVX-512, and then takes no new ones"
)
def test_colocated_it_runs_to_its_end(inputs, tmp_path):
    done = train(inputs, tmp_path / "out", "--vllm-mode", "colocate")
    assert done.returncode == 0, done.stderr[-5000:]
    results = json.loads((tmp_path / "out" / "dpo_results.json").read_text())
    assert (results["steps"], results["prompts"], results["held_out"]["prompts"]) == (2, 10, 4)
    assert (tmp_path / "out" / "model.safetensors").exists()


def test_a_server_on_a_cpu_cannot_be_given_new_weights(inputs, tmp_path):
    """TRL hands weights to a server over NCCL, which is CUDA's: the run ends with that reason before it trains."""
    options = ["--max-model-len", "64", "--logprobs-mode", "processed_logprobs", "--max-logprobs", "-1"]
    options += ["--enable-scale-out", "--weight-transfer-config", '{"backend": "nccl"}']  # as `trl vllm-serve` has them
    policy, log = str(inputs / "policy"), tmp_path / "vllm.log"
    with vllm_server(policy, log, *options, variables={"VLLM_SERVER_DEV_MODE": "1"}) as url:
        done = train(inputs, tmp_path / "out", "--vllm-mode", "server", "--vllm-server-base-url", url)
    assert done.returncode != 0
    assert "needs a CUDA device" in done.stderr, done.stderr[-5000:]
    assert not (tmp_path / "out" / "model.safetensors").exists()
