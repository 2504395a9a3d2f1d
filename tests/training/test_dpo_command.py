"""`train-dpo` as a user runs it, on a tiny policy and a tiny reward model."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from datasets import Dataset, load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.integrations.deepspeed import (
    is_deepspeed_zero3_enabled,
    set_hf_deepspeed_config,
    unset_hf_deepspeed_config,
)

from tests.conftest import in_hub_cache
from tests.tiny import chat, decoder_tokenizer, reward_model
from tests.training.dpo_tiny import make_policy, make_prompts, make_tokenizer
from wildreward.commands import parse
from wildreward.common.errors import UserError
from wildreward.scoring import RewardSourceError
from wildreward.scoring.scorer import RewardScorer
from wildreward.training.dpo_command import CONFIGS, _reward_dtype, _reward_functions, main, run_settings, train_policy
from wildreward.training.dpo_config import BestOfNDPOConfig
from wildreward.training.dpo_prompts import load_prompts, prompt_of
from wildreward.training.pairs import preference_rows
from wildreward.training.reward_config import OrdinalRewardConfig

RECIPES = Path(__file__).parents[2] / "recipes"
FLAGS = """--num-generations 4 --num-generations-eval 2 --per-device-train-batch-size 8 --per-device-eval-batch-size 4
--max-completion-length 6 --choose-truncated True --logging-steps 1 --report-to none --use-cpu True
--gradient-checkpointing False --disable-tqdm True --learning-rate 1e-2 --held-out-prompts 4 --bf16 False"""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    make_policy(folder / "policy")
    RewardScorer(reward_model("llama"), decoder_tokenizer()).save_pretrained(folder / "rm")
    with open(folder / "chats.jsonl", "w") as handle:
        for messages in make_prompts(14)["prompt"]:
            handle.write(json.dumps({"messages": [*messages, {"role": "assistant", "content": "c1"}]}) + "\n")
    return folder


def configs(inputs, output, *more):
    argv = ["--model", str(inputs / "policy"), "--reward-model", str(inputs / "rm"), "--output-dir", str(output)]
    argv += ["--dataset", str(inputs / "chats.jsonl")]
    flags = FLAGS.split() + list(more)
    for name, value in dict(zip(flags[::2], flags[1::2], strict=True)).items():
        argv += [name, value]
    return parse("train-dpo", CONFIGS, argv)


def test_writes_a_policy_with_its_results_and_refuses_other_settings(inputs, tmp_path, capsys):
    main(*configs(inputs, tmp_path / "out", "--max-steps", "2", "--save-steps", "1"))
    assert "held-out reward:" in capsys.readouterr().out
    pickles = [path.name for path in (tmp_path / "out").glob("*") if path.suffix in (".bin", ".pt", ".pth", ".pkl")]
    assert not pickles
    results = json.loads((tmp_path / "out" / "dpo_results.json").read_text())
    assert (results["steps"], results["prompts"], results["held_out"]["prompts"]) == (2, 10, 4)
    for name in ("reward", "length"):
        change = results["held_out"][name]
        assert change["difference"]["value"] == pytest.approx(change["after"]["value"] - change["before"]["value"])
        for k in ("before", "after"):
            if name == "length" and change[k]["low"] is None:  # every completion as long as may be: nothing varies
                assert change[k]["value"] == int(change[k]["value"]) and change[k]["high"] is None
            else:
                assert change[k]["low"] <= change[k]["value"] <= change[k]["high"]
    assert results["held_out"]["kl"]["before"]["value"] == 0 < abs(results["held_out"]["kl"]["after"]["value"])
    kept = [json.loads(line) for line in (tmp_path / "out" / "held_out.jsonl").read_text().splitlines()]
    scorer = RewardScorer.from_pretrained(str(inputs / "rm"))
    for moment in ("before", "after"):
        said = [(row["prompt"], one) for row in kept for one in row[moment]["completions"]]
        empty = [one for _, one in said if one["reward"] is None]  # a reward is given for answers in words
        assert not any(one["text"].strip() for one in empty) and len(said) == 8
        said = [(prompt, one) for prompt, one in said if one["reward"] is not None]
        scores = scorer.score([[*prompt, {"role": "assistant", "content": one["text"]}] for prompt, one in said])
        assert [one["reward"] for _, one in said] == pytest.approx(scores, abs=1e-4)
        means = [row[moment]["reward"] for row in kept]
        assert sum(means) / len(means) == pytest.approx(results["held_out"]["reward"][moment]["value"])
    assert set(results["seconds_per_step"]) == {"generation", "scoring", "selection", "reference", "training"}
    trained = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    AutoTokenizer.from_pretrained(tmp_path / "out")
    untrained = AutoModelForCausalLM.from_pretrained(inputs / "policy")
    assert any(not torch.equal(a, b) for a, b in zip(trained.parameters(), untrained.parameters(), strict=True))
    assert (tmp_path / "out" / "README.md").exists()

    assert str(tmp_path) not in json.dumps(results) and str(inputs) not in json.dumps(results)
    for flag, said in (("--beta 0.5", "beta was 0.1, now 0.5"), ("--max-steps 3", "max_steps was 2, now 3")):
        with pytest.raises(UserError, match=f"other settings .*{said}"):
            train_policy(*configs(inputs, tmp_path / "out", *("--max-steps 2 " + flag).split()))

    stamp = (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns
    assert train_policy(*configs(inputs, tmp_path / "out", "--max-steps", "2", "--save-steps", "1")) == results
    assert (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns == stamp

    # killed between its last step and its results; what an earlier kill left half-written is passed over
    (tmp_path / "out" / "dpo_results.json").unlink()
    (tmp_path / "out" / "checkpoint-9").mkdir()
    (tmp_path / "out" / "checkpoint-9" / "trainer_state.json").write_text('{"global_')
    again = train_policy(*configs(inputs, tmp_path / "out", "--max-steps", "2", "--save-steps", "1"))
    assert (again["steps"], again["log"], again["held_out"]) == (2, results["log"], results["held_out"])
    finished = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert all(torch.equal(a, b) for a, b in zip(trained.parameters(), finished.parameters(), strict=True))


@pytest.mark.parametrize(
    "flags",
    [
        "--max-prompt-length 8",
        "--held-out-prompts 3",
        "--served-model other",
        "--reward-dtype bfloat16",
        "--num-train-epochs 2",
        "--lr-scheduler-type constant",
        "--weight-decay 0.5",
        "--top-p 0.5",
        "--top-k 3",
        "--reward-weights 2.0",
        "--lora-alpha 8",
    ],
)
def test_whatever_changes_the_result_is_a_setting(inputs, tmp_path, flags):
    name = flags.split()[0].removeprefix("--").replace("-", "_")
    before, after = (run_settings(*configs(inputs, tmp_path, *more.split())) for more in ("", flags))
    assert [key for key in after if after[key] != before[key]] == [name]


def test_settings_know_contents_and_hide_where_they_are(inputs, tmp_path):
    arguments, config = configs(inputs, tmp_path / "out")
    arguments.reward_model.append("https://me:secret@rewards.example:8000/score?key=hidden")
    before = run_settings(arguments, config)
    assert (before["model"], before["dataset"]) == ("policy", "chats.jsonl")
    assert before["reward_model"] == ["rm", "rewards.example:8000"]
    make_policy(tmp_path / "policy", seed=1)
    (tmp_path / "chats.jsonl").write_text((inputs / "chats.jsonl").read_text().replace("a1", "a2"))
    arguments = replace(arguments, model=str(tmp_path / "policy"), dataset=str(tmp_path / "chats.jsonl"))
    after = run_settings(arguments, config)
    assert {key for key in after if after[key] != before[key]} == {"model_digest", "dataset_digest"}
    assert not any(word in json.dumps(after) for word in (str(tmp_path), str(inputs), "secret", "hidden"))


def test_an_adapter_names_its_base_as_it_was_asked_for(inputs, tmp_path):
    snapshot = tmp_path / "models--some--policy" / "snapshots" / ("0a1b" * 10)
    make_policy(snapshot)
    flags = ("--max-steps", "1", "--lora-rank", "2", "--held-out-prompts", "0", "--save-strategy", "no")
    arguments, config = configs(inputs, tmp_path / "out", *flags)
    train_policy(replace(arguments, model=in_hub_cache(str(snapshot))), config)
    saved = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert saved["base_model_name_or_path"] == "some/policy"
    texts = [path for path in (tmp_path / "out").iterdir() if path.suffix in (".json", ".md")]
    assert [path.name for path in texts if str(tmp_path) in path.read_text()] == []


def test_pairs_only_writes_a_dataset_that_trl_trains_on(inputs, tmp_path):
    from trl import DPOConfig, DPOTrainer

    more = ("--pairs-only", "True", "--held-out-prompts", "0", "--per-device-train-batch-size", "32")
    first = train_policy(*configs(inputs, tmp_path / "pairs", *more))
    pairs = load_dataset(str(tmp_path / "pairs"), split="train", cache_dir=str(tmp_path / "cache"))
    assert first["pairs"] == len(pairs) > 0 and first["prompts"] == 14
    assert all(s > r for s, r in zip(pairs["score_chosen"], pairs["score_rejected"], strict=True))
    assert train_policy(*configs(inputs, tmp_path / "pairs", *more))["pairs"] == len(pairs)  # finished parts are kept
    (tmp_path / "pairs" / "data" / "train-00000-of-00002.parquet").write_bytes(b"")
    with pytest.raises(UserError, match=r"train-00000-of-00002\.parquet, which is not one of the 1 parts of this run"):
        train_policy(*configs(inputs, tmp_path / "pairs", *more))
    args = DPOConfig(str(tmp_path / "dpo"), max_steps=1, use_cpu=True, bf16=False, report_to=[], disable_tqdm=True)
    trainer = DPOTrainer(str(inputs / "policy"), args=args, train_dataset=pairs, processing_class=make_tokenizer())
    assert trainer.train().training_loss == pytest.approx(0.6931, abs=1e-3)


def test_parts_of_pairs_keep_their_settings_when_the_rewards_fail(inputs, tmp_path, monkeypatch):
    scored = []

    def once(self, prompts, completions, **kwargs):
        if scored:
            raise RewardSourceError("the server is gone")
        scored.append(len(completions))
        return [float(index) for index in range(len(completions))]

    monkeypatch.setattr("wildreward.training.pairs.PROMPTS_PER_PART", 8)
    monkeypatch.setattr("wildreward.scoring.reward_function.RewardFunction.__call__", once)
    more = ("--pairs-only", "True", "--held-out-prompts", "0", "--per-device-train-batch-size", "32")
    with pytest.raises(UserError, match="the server is gone"):
        train_policy(*configs(inputs, tmp_path / "pairs", *more))
    assert [path.name for path in (tmp_path / "pairs" / "data").iterdir()] == ["train-00000-of-00002.parquet"]
    with pytest.raises(UserError, match=r"other settings .*temperature was 1\.0, now 0\.3"):
        train_policy(*configs(inputs, tmp_path / "pairs", *more, "--temperature", "0.3"))


def test_preference_rows_leave_out_prompts_without_a_pair():
    rewards = torch.tensor([[1.0, 2.0, 3.0], [1.0, 1.0, 1.0], [2.0, 1.0, float("nan")]])
    rows = preference_rows(["p", "q", "r"], [["a", "b", "c"], ["a", "b", "c"], ["x", "y", "z"]], rewards)
    assert rows == [
        {"prompt": "p", "chosen": "c", "rejected": "a", "score_chosen": 3.0, "score_rejected": 1.0},
        {"prompt": "r", "chosen": "x", "rejected": "y", "score_chosen": 2.0, "score_rejected": 1.0},
    ]


def test_evaluation_while_training_is_on_the_held_out_prompts(inputs, tmp_path):
    flags = ("--max-steps", "2", "--eval-strategy", "steps", "--eval-steps", "1", "--save-steps", "1")
    train_policy(*configs(inputs, tmp_path / "out", *flags))
    state = json.loads((tmp_path / "out" / "checkpoint-2" / "trainer_state.json").read_text())
    assert [row["step"] for row in state["log_history"] if "eval_reward" in row] == [1, 2]
    with pytest.raises(
        UserError, match=r"eval_strategy is steps and no prompt is held out .*held_out_prompts \(now 0\)"
    ):
        train_policy(*configs(inputs, tmp_path / "none", *flags, "--held-out-prompts", "0"))
    with pytest.raises(UserError, match="pairs_only trains nothing, so there is nothing to evaluate"):
        more = ("--pairs-only", "True", "--per-device-eval-batch-size", "8")
        train_policy(*configs(inputs, tmp_path / "pairs", *flags, *more))


@pytest.mark.skipif(torch.cuda.is_available(), reason="about machines without a GPU")
@pytest.mark.parametrize("config_class", [BestOfNDPOConfig, OrdinalRewardConfig])
@pytest.mark.parametrize("fast", [False, True])
def test_a_cpu_that_multiplies_bfloat16_is_trained_on_in_bfloat16(monkeypatch, tmp_path, config_class, fast):
    """Without being told that the CPU is meant, transformers refuses bfloat16 there."""
    monkeypatch.setattr("wildreward.training.model_setup.fast_bf16", lambda: fast)
    made = config_class(str(tmp_path))
    assert (made.bf16, made.use_cpu) == (fast, True) and made.device.type == "cpu"


@pytest.mark.parametrize(
    ("asked", "device", "has_bf16", "loaded"),
    [
        ("auto", "cuda", True, "bfloat16"),
        ("auto", "cuda", False, "auto"),
        ("auto", "cpu", True, "auto"),
        ("float32", "cuda", True, "float32"),
    ],
)
def test_a_local_reward_model_takes_half_the_memory_on_a_gpu(monkeypatch, asked, device, has_bf16, loaded):
    monkeypatch.setattr("wildreward.training.dpo_command.fast_bf16", lambda: has_bf16)
    assert _reward_dtype(asked, device) == loaded


@pytest.mark.parametrize(("asked", "loaded"), [("auto", torch.float32), ("bfloat16", torch.bfloat16)])
def test_a_local_reward_model_is_loaded_as_asked(inputs, tmp_path, asked, loaded):
    (function,) = _reward_functions(*configs(inputs, tmp_path, "--reward-dtype", asked))
    model = function._source.scorer.model
    assert {weight.dtype for weight in model.model.parameters()} == {loaded}
    assert {weight.dtype for weight in model.score.parameters()} == {torch.float32}


def test_a_local_reward_model_is_loaded_whole_in_a_run_under_zero3(inputs, tmp_path):
    class Sharding:
        def is_zero3(self):
            return True

    sharding = Sharding()
    set_hf_deepspeed_config(sharding)
    try:
        (function,) = _reward_functions(*configs(inputs, tmp_path))
        assert is_deepspeed_zero3_enabled()  # for the policy, again
    finally:
        unset_hf_deepspeed_config()
    expected = RewardScorer.from_pretrained(inputs / "rm").score([chat("c1", "c2")])
    assert function.score([chat("c1", "c2")]) == pytest.approx(expected)


def test_user_errors(inputs, tmp_path):
    with pytest.raises(UserError, match=r"the policy .*nothing cannot be loaded"):
        arguments, config = configs(inputs, tmp_path / "a")
        train_policy(replace(arguments, model=str(tmp_path / "nothing")), config)
    with pytest.raises(
        UserError, match="is a language model; expected a reward model, or, for a policy trained by DPO, --reference"
    ):
        arguments, config = configs(inputs, tmp_path / "b", "--max-steps", "1")
        train_policy(replace(arguments, reward_model=[str(inputs / "policy")]), config)
    with pytest.raises(UserError, match="10 prompts are fewer than the 32 of one step"):
        train_policy(*configs(inputs, tmp_path / "c", "--gradient-accumulation-steps", "16"))
    (tmp_path / "odd.jsonl").write_text('{"question": "q"}\n')
    with pytest.raises(UserError, match="columns are question; expected `prompt`"):
        load_prompts(str(tmp_path / "odd.jsonl"), make_tokenizer(), 10, 0)


USER, ASSISTANT, SYSTEM = ({"role": role, "content": role[0]} for role in ("user", "assistant", "system"))


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"prompt": "text"}, "text"),
        ({"prompt": [USER]}, [USER]),
        ({"history": [SYSTEM, USER, ASSISTANT], "messages": [USER, ASSISTANT]}, [SYSTEM, USER, ASSISTANT, USER]),
        ({"messages": [SYSTEM, USER, ASSISTANT]}, [SYSTEM, USER]),
        ({"messages": [ASSISTANT]}, None),
        ({"conversations": [{"from": "human", "value": "u"}, {"from": "gpt", "value": "a"}]}, [USER]),
        ({"conversations": [{"from": "human", "value": "u"}, {"from": "chatgpt", "value": "a"}]}, [USER]),
        ({"messages": [{"role": "human", "content": "u"}, {"role": "model", "content": "a"}]}, [USER]),
    ],
)
def test_prompts_of_each_known_shape(row, prompt):
    assert prompt_of(row) == prompt


def test_prompts_are_held_out_filtered_and_counted(tmp_path, caplog):
    rows = [{"prompt": " ".join(["a1"] * n)} for n in (1, 2, 3, 3, 50)] + [{"prompt": " "}]
    Dataset.from_list(rows).to_parquet(tmp_path / "p.parquet")
    with caplog.at_level("INFO"):
        train, held_out = load_prompts(str(tmp_path / "p.parquet"), make_tokenizer(), 10, held_out=1)
    assert len(train) == 2 and len(held_out) == 1
    assert set(train["prompt"]) | set(held_out["prompt"]) == {"a1", "a1 a1", "a1 a1 a1"}
    assert "1 duplicate, 1 empty, 1 too long" in caplog.text


def test_prompts_with_an_unknown_role_are_left_out_and_counted(tmp_path, caplog):
    speakers = ["human", "narrator", "user", "human"]
    rows = [{"conversations": [{"from": name, "value": f"a{i}"}]} for i, name in enumerate(speakers)]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with caplog.at_level("INFO"):
        train, _ = load_prompts(str(tmp_path / "chats.jsonl"), make_tokenizer(), 10, held_out=0)
    assert sorted(prompt[0]["content"] for prompt in train["prompt"]) == ["a0", "a2", "a3"]
    assert "prompts left out: 1 unknown role" in caplog.text


@pytest.mark.parametrize("name", ["dpo-quickstart", "dpo-llama-3.1-8b", "dpo-qwen3-4b"])
def test_recipes_are_valid_and_make_the_batches_they_say(name, tmp_path):
    argv = ["--config", str(RECIPES / f"{name}.yaml"), "--use-cpu", "True", "--output-dir", str(tmp_path)]
    if name == "dpo-quickstart":
        argv += ["--reward-model", "rm", "--dataset", "data"]
    _, config = parse("train-dpo", CONFIGS, argv)
    pairs = config.pairs_per_device * config.gradient_accumulation_steps
    assert pairs == (2 if name == "dpo-quickstart" else 64 // 4)
