"""What vLLM makes of an export, against the library itself."""

import json

import httpx2
import pytest
import torch
from transformers import AutoTokenizer

from benchmarks.engines import vllm_server
from tests.tiny import chat, reward_model, tokenizer_for
from wildreward import RewardScorer
from wildreward.scoring.export_command import ExportConfig, main

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1200)]
# its attention on CPUs knows heads from 32 on
SHAPE = {"hidden_size": 128, "head_dim": 32, "num_attention_heads": 4}
CONVERSATIONS = [
    chat(f"the cat {'sat ' * n}", "on a mat " * (n % 7 + 1), *["hi", "wrong again"] * (n % 2)) for n in range(16)
]


def levels(folder, answers):
    """Scores from the probabilities that `/classify` gives and what the export's configuration says."""
    told = json.loads((folder / "config.json").read_text())
    values = torch.tensor([row["probs"] for row in answers])
    if told["wildreward_form"] == "thresholds":
        return (1 + values.sum(1)).tolist()
    biases, temperatures = (torch.tensor(told[f"wildreward_{name}"]) for name in ("thresholds", "temperatures"))
    return (1 + ((values + biases) / temperatures).sigmoid().cummin(1).values.sum(1)).tolist()


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
@pytest.mark.parametrize("head", ["coral", "independent"])
def test_exported_scores_are_the_librarys(kind, head, tmp_path):
    model = reward_model(kind, head=head, **SHAPE)
    model.config.temperatures = [1.5, 0.7, 2.0]
    scorer = RewardScorer(model, tokenizer_for(kind))
    scorer.save_pretrained(tmp_path / "rm")
    expected = scorer.score(CONVERSATIONS)
    assert max(expected) - min(expected) > 0.2
    plain = tmp_path / "plain"
    main(ExportConfig(model=str(tmp_path / "rm"), output=str(plain)))
    tokenizer = AutoTokenizer.from_pretrained(plain)
    texts = [tokenizer.apply_chat_template(messages, tokenize=False) for messages in CONVERSATIONS]
    with vllm_server(str(plain), tmp_path / "vllm.log", "--runner", "pooling") as url:

        def asked(**body):
            answer = httpx2.post(f"{url}/classify", json={"model": "m", **body}, timeout=300)
            answer.raise_for_status()
            return answer.json()["data"]

        assert levels(plain, asked(input=texts)) == pytest.approx(expected, abs=1e-4)
        # messages are rendered there; a chat a request
        own = [asked(messages=messages, add_generation_prompt=False)[0] for messages in CONVERSATIONS[:3]]
        assert levels(plain, own) == pytest.approx(expected[:3], abs=1e-4)
