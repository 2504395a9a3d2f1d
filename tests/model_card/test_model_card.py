"""Cards of model folders: what is read, what is rendered, what is checked; the same card from `push_to_hub=True`."""

import json

import pytest
import torch
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries
from hypothesis import given
from hypothesis import strategies as st
from transformers import Trainer, TrainingArguments

from tests.model_card.conftest import write_results
from wildreward.common.cards import Card
from wildreward.common.errors import UserError
from wildreward.model_card import push, write_model_card
from wildreward.model_card.facts import is_hub_id, read_model_facts
from wildreward.model_card.files import matches, select_files
from wildreward.model_card.model_card import render_eval_results, render_model_card
from wildreward.model_card.validate import image_links
from wildreward.modeling_wildreward import WildRewardForSequenceClassification

CONFIG = {"model_type": "wildreward", "architectures": ["WildRewardForSequenceClassification"], "num_levels": 4}


def make(folder, config=CONFIG, **files):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    for name, value in files.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    return folder


def test_minimal_folder_has_a_card_that_admits_what_is_not_known(tmp_path):
    text = write_model_card(make(tmp_path / "m")).read_text()
    assert "Not evaluated yet." in text and "The training data was not recorded." in text
    card = ModelCard(text)
    assert (
        card.data.license == "unknown"
        and card.data.base_model is None
        and card.data.pipeline_tag == "text-classification"
    )
    assert not (tmp_path / "m" / ".eval_results").exists()


def test_same_files_same_card(tmp_path):
    folder = make(tmp_path / "m")
    write_results(folder, 0.5)
    first = write_model_card(folder).read_text()
    assert write_model_card(folder).read_text() == first
    assert render_model_card(read_model_facts(folder)) == first


def test_local_paths_hosts_and_tokens_of_training_do_not_reach_the_card(tmp_path):
    arguments = {
        "output_dir": "/home/me/run",
        "hub_token": "<HUB_TOKEN>",
        "run_name": "me",
        "learning_rate": 1e-5,
        "bf16": False,
    }
    summary = {"dataset": str(tmp_path), "base_model": "/data/base", "arguments": arguments}
    text = write_model_card(make(tmp_path / "m", training_summary=summary)).read_text()
    assert "learning_rate | 1e-05" in text and "bf16" not in text
    for secret in ("/home/me", "HUB_TOKEN", "run_name", str(tmp_path), "/data/base"):
        assert secret not in text


@pytest.mark.parametrize(
    ("config", "tag", "usage"),
    [
        ({"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]}, "text-generation", "pipeline("),
        (
            {"model_type": "llama", "architectures": ["LlamaForSequenceClassification"]},
            "text-classification",
            "sigmoid()",
        ),
    ],
)
def test_policies_and_exported_classifiers_have_their_own_usage(tmp_path, config, tag, usage):
    card = Card.parse(write_model_card(make(tmp_path / "m", config)).read_text())
    assert card.metadata["pipeline_tag"] == tag and usage in card.section
    assert "trust_remote_code" not in card.section


def test_folder_without_a_model_and_unknown_architecture(tmp_path):
    with pytest.raises(UserError, match="holds no model"):
        write_model_card(tmp_path)
    with pytest.raises(UserError, match="names the architecture BertForMaskedLM; expected"):
        write_model_card(make(tmp_path / "m", {"architectures": ["BertForMaskedLM"]}))


def test_license_comes_from_the_base_models_card_until_one_is_given(tmp_path):
    base = tmp_path / "base"
    base.mkdir()
    (base / "README.md").write_text("---\nlicense: gemma\n---\n")
    folder = make(tmp_path / "m", {**CONFIG, "base_model": str(base)})
    assert Card.parse(write_model_card(folder).read_text()).metadata["license"] == "gemma"
    assert Card.parse(write_model_card(folder, license="mit").read_text()).metadata["license"] == "mit"
    assert Card.parse(write_model_card(folder).read_text()).metadata["license"] == "mit"


def hub_origins(*repos):
    return [{"repo": repo, "revision": "abc"} for repo in repos]


@pytest.mark.parametrize("limit", [None, 3])
def test_no_entry_for_a_sample_nor_for_files_from_elsewhere(limit):
    estimate = {"value": 0.5, "low": 0.4, "high": 0.6}
    files = [{"file": "mine.jsonl", "sha256": "0"}]
    origins = files if limit is None else hub_origins("ScalerLab/JudgeBench", "user/chats")
    results = {
        "settings": {"limit": limit},
        "benchmarks": {
            "judge_bench": {"score": estimate, "n": 3, "sources": ["ScalerLab/JudgeBench"], "read_from": origins}
        },
        "datasets": {"user/chats": {"split": "test", "n": 3, "roc_auc": estimate, "read_from": origins}},
    }
    assert render_eval_results(results) == ""


def test_evaluation_entries_for_benchmarks_and_hub_datasets_only():
    estimate = {"value": 0.8361, "low": 0.82, "high": 0.85}
    split = {"split": "test", "n": 5000, "roc_auc": estimate, "mae": {"value": None, "low": None, "high": None}}
    ppe = ["x/PPE-MMLU-Pro-Best-of-K", "x/PPE-MATH-Best-of-K"]
    split["read_from"] = hub_origins("user/chats")
    results = {
        "benchmarks": {
            "reward_bench": {
                "score": estimate, "n": 2985, "sources": ["allenai/reward-bench"],
                "read_from": hub_origins("allenai/reward-bench"),
            },
            "ppe_correctness": {
                "score": estimate, "n": 9, "sources": ppe, "read_from": hub_origins(*ppe),
                "subsets": {"mmlu_pro": {"n": 5, "value": 0.5}, "other": {"n": 4, "value": 0.1}},
            },
            "own_benchmark": {"score": estimate, "n": 1, "sources": []},
        },
        "datasets": {"user/chats": split, "/data/chats": split, "dataset": split},
        "settings": {"limit": None},
    }  # fmt: skip
    entries = parse_eval_result_entries(yaml.safe_load(render_eval_results(results)))
    assert [(entry.dataset_id, entry.task_id, entry.value) for entry in entries] == [
        ("allenai/reward-bench", "default", 83.61),
        ("x/PPE-MMLU-Pro-Best-of-K", "default", 50.0),
        ("user/chats", "roc_auc", 0.8361),
    ]
    assert [entry.notes for entry in entries[:2]] == ["2985 items, 95% interval [82, 85]", "5 items"]


def test_policy_card_shows_held_out_reward_from_its_run(tmp_path):
    held_out = {"prompts": 40, "reward": {
        "before": {"value": 2.1, "low": 2.0, "high": 2.2}, "after": {"value": 2.4, "low": 2.3, "high": 2.5},
        "difference": {"value": 0.3, "low": 0.2, "high": 0.4},
    }}  # fmt: skip
    settings = {
        "model": "org/policy",
        "reward_model": ["user/m", "/data/m"],
        "dataset": "/data/p",
        "learning_rate": 5e-7,
    }
    dpo = {"settings": settings, "steps": 12, "prompts": 400, "held_out": held_out}
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    text = write_model_card(make(tmp_path / "p", config, dpo_results=dpo)).read_text()
    assert "| reward | 2.100 [2.000, 2.200] | 2.400 [2.300, 2.500] | 0.300 [0.200, 0.400] |" in text
    assert "On 40 held-out prompts" in text and "Not evaluated" not in text
    assert "Prompts: 400. Steps: 12." in text and "[user/m]" in text
    assert "/data" not in text and Card.parse(text).metadata["base_model"] == "org/policy"


def test_results_that_are_gone_take_their_entries_with_them(tmp_path):
    folder = make(tmp_path / "m")
    write_results(folder, 0.5)
    write_model_card(folder)
    assert (folder / ".eval_results" / "wildreward.yaml").exists()
    (folder / "results.json").unlink()
    assert "Not evaluated yet." in write_model_card(folder).read_text()
    assert not (folder / ".eval_results" / "wildreward.yaml").exists()


def test_image_links_of_the_repository():
    text = '![a](figures/a.png) ![](./b.png "title") <img src="c.png"> ![w](https://x.org/d.png) [no](e.png)'
    assert image_links(text) == ["figures/a.png", "b.png", "c.png"]


def test_patterns_do_not_cross_folders():
    assert matches("data/train-0.parquet", ("data/*.parquet",)) and not matches("data/x/y.parquet", ("data/*.parquet",))
    assert not matches("checkpoint-1/model.safetensors", ("*.safetensors",))


def test_select_files_names_what_stays(reward_folder):
    selection = select_files(reward_folder)
    assert set(selection.left_out) == {"training_args.bin", "settings.json", "checkpoint-10/model.safetensors"}


@given(st.text(max_size=30))
def test_is_hub_id_never_takes_a_path(name):
    if is_hub_id(name):
        assert name.count("/") == 1 and not name.startswith(("/", ".", "~"))


def usage_of(text):
    return text.partition("## How to use")[2].partition("\n## ")[0]


def test_trainer_with_push_to_hub_writes_the_same_card(hub, api, reward_folder_made_once, tmp_path, monkeypatch):
    class CardTrainer(Trainer):
        def create_model_card(self, *args, **kwargs):
            write_model_card(self.args.output_dir, self.hub_model_id)

    monkeypatch.setattr("transformers.utils.hub._hf_api", api)
    row = {"input_ids": torch.tensor([2, 7, 9, 3]), "attention_mask": torch.ones(4, dtype=torch.long)}
    arguments = TrainingArguments(
        str(tmp_path / "trained"),
        max_steps=1,
        push_to_hub=True,
        hub_model_id="user/trained",
        hub_private_repo=True,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    model = WildRewardForSequenceClassification.from_pretrained(reward_folder_made_once)
    trainer = CardTrainer(model, arguments, train_dataset=[{**row, "labels": 1 + i % 4} for i in range(4)])
    trainer.train()
    trainer.push_to_hub()
    repo = hub.repo("user/trained")
    pushed = repo.files()["README.md"].decode()
    assert repo.private and pushed == render_model_card(read_model_facts(arguments.output_dir, "user/trained"))

    write_results(arguments.output_dir, 0.66)
    push(arguments.output_dir, "user/trained", api=api)
    after = repo.files()["README.md"].decode()
    assert "0.660" in after and usage_of(after) == usage_of(pushed)
