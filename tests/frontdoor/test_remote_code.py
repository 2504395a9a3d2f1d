"""No code from a model's folder runs, and nobody is asked on the terminal whether it may, unless an option says so."""

import ast
import contextlib
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.tiny import reward_model, save_backbone, tokenizer_for
from tests.training.dpo_tiny import make_policy
from wildreward import RewardScorer
from wildreward.common.errors import UserError
from wildreward.scoring import load_scorer

ROOT = Path(__file__).resolve().parents[2]
ROOMS = (
    "wildreward",
    "modeling_wildreward",
    "training",
    "dataset_builder",
    "evaluation",
    "scoring",
    "common",
    "model_card",
)
EVIL = """
from pathlib import Path
Path({marker!r}).write_text("ran")
from transformers import LlamaConfig, LlamaModel, PreTrainedTokenizerFast
class Config(LlamaConfig): ...
class Model(LlamaModel): ...
class Tokenizer(PreTrainedTokenizerFast): ...
"""
LOADING = re.compile(r"Auto\w+\.from_(pretrained|config)|pipeline")
MODELS = ("AutoModel", "AutoModelForSequenceClassification", "AutoModelForCausalLM")


def test_every_loading_says_whether_it_trusts_remote_code():
    silent = []
    for file in (file for room in (*ROOMS, "benchmarks") for file in (ROOT / room).rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        for call in ast.walk(ast.parse(text)):
            if not isinstance(call, ast.Call):
                continue
            # the function called, or one handed on to be called with the other arguments
            names = [
                ast.unparse(part) for part in (call.func, *call.args) if isinstance(part, ast.Attribute | ast.Name)
            ]
            auto = any(LOADING.fullmatch(name) for name in names)
            said = {keyword.arg for keyword in call.keywords}
            unpacked = [ast.unparse(keyword.value) for keyword in call.keywords if keyword.arg is None]
            said |= {"trust_remote_code" for name in unpacked if f'{name} = {{"trust_remote_code": False' in text}
            if auto and "trust_remote_code" not in said:
                silent.append(f"{file.relative_to(ROOT)}:{call.lineno}")
    assert silent == []


def booby_trap(folder, marker, tokenizer="EvilTokenizer", **config):
    """Have the configurations of a model folder name code that lies in it; `tokenizer` may be a class that is known."""
    (folder / "evil.py").write_text(EVIL.format(marker=str(marker)))
    settings = json.loads((folder / "config.json").read_text())
    names = {"AutoConfig": "evil.Config"} | dict.fromkeys(MODELS, "evil.Model")
    (folder / "config.json").write_text(json.dumps(settings | {"auto_map": names} | config))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings |= {"tokenizer_class": tokenizer, "auto_map": {"AutoTokenizer": ["evil.Tokenizer", "evil.Tokenizer"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return str(folder)


DOORS = """
import sys
from wildreward.cli import _run
from wildreward import RewardScorer, RewardFunction
from wildreward.training import OrdinalRewardTrainer
from wildreward.dataset_builder.embedding import Embedder
from wildreward.dataset_builder.labelers.decision import load_pipeline
reward, unknown, base, policy, plain, rows, out = sys.argv[1:]
command = lambda *words: lambda: _run(list(words))
doors = {"tokenizer of a url": command("evaluate", "--model", "http://127.0.0.1:9/x", "--served-model", base,
                                       "--dataset", rows, "--output", out + "/url")}
for number, model in enumerate((reward, unknown, base, plain)):
    doors |= {
        f"scorer {number}": lambda model=model: RewardScorer.from_pretrained(model),
        f"function {number}": lambda model=model: RewardFunction(model),
        f"score {number}": command("score", "--model", model, "--input", rows, "--output", f"{out}/{number}.jsonl"),
        f"evaluate {number}": command("evaluate", "--model", model, "--dataset", rows, "--output", f"{out}/e{number}"),
        f"export {number}": command("export", "--model", model, "--output", f"{out}/x{number}"),
        f"convert {number}": command("convert", "--checkpoint", model, "--template", "default", "--output", f"{out}/c{number}"),
        f"train-reward {number}": command("train-reward", "--base-model", model, "--dataset", rows, "--max-steps", "1",
                                          "--output-dir", f"{out}/t{number}"),
        f"trainer {number}": lambda model=model: OrdinalRewardTrainer(model),
        f"encoder {number}": lambda model=model: Embedder(model),
        f"labeler {number}": lambda model=model: load_pipeline(model, "cpu"),
    }
for number, model in enumerate((policy, unknown)):
    doors[f"train-dpo {number}"] = command("train-dpo", "--model", model, "--reward-model", reward, "--dataset", rows,
                                           "--output-dir", f"{out}/d{number}", "--max-steps", "1")
for name, door in doors.items():
    try:
        door()
        print(f"{name}: went through")
    except (Exception, SystemExit) as error:
        print(f"{name}: {type(error).__name__}: {str(error)[-150:]}")
"""


@pytest.mark.parametrize(
    ("changes", "refused"),
    [({"tokenizer": "TokenizersBackend"}, False), ({}, True), ({"model_type": "evil"}, True)],
)
def test_a_reward_model_loads_without_its_code_or_a_question(changes, refused, tmp_path, monkeypatch, capfd):
    RewardScorer(reward_model(), tokenizer_for("llama")).save_pretrained(tmp_path / "model")
    folder = booby_trap(tmp_path / "model", tmp_path / "ran", **changes)
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 20))
    for load in (RewardScorer.from_pretrained, load_scorer):
        with pytest.raises(UserError, match="contains custom code") if refused else contextlib.nullcontext():
            load(folder)
    assert not (tmp_path / "ran").exists() and "[y/N]" not in "".join(capfd.readouterr())


@pytest.mark.slow
def test_no_door_runs_code_from_a_folder_or_asks_whether_to(tmp_path):
    marker = tmp_path / "ran"
    scorer = RewardScorer(reward_model(), tokenizer_for("llama"))
    folders = {}
    for name, config in (("reward", {"tokenizer": "TokenizersBackend"}), ("unknown", {"model_type": "evil"})):
        scorer.save_pretrained(tmp_path / name)
        folders[name] = booby_trap(tmp_path / name, marker, **config)
    save_backbone("llama", tmp_path / "base")
    folders["base"] = booby_trap(tmp_path / "base", marker)
    folders["policy"] = booby_trap(Path(make_policy(tmp_path / "policy")), marker)
    scorer.model.model.save_pretrained(tmp_path / "plain")
    scorer.tokenizer.save_pretrained(tmp_path / "plain")
    weights = {f"model.{name}": value for name, value in load_file(tmp_path / "plain" / "model.safetensors").items()}
    weights["score.weight"] = scorer.model.score.weight.detach()[:1].contiguous()
    save_file(weights, tmp_path / "plain" / "model.safetensors", metadata={"format": "pt"})
    one = {"id2label": {"0": "x"}, "label2id": {"x": 0}, "architectures": ["LlamaForSequenceClassification"]}
    folders["plain"] = booby_trap(tmp_path / "plain", marker, **one)
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "label": 1}
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row | {"id": str(i), "history": []}) for i in range(40)))
    (tmp_path / "doors.py").write_text(DOORS)
    names = [folders[name] for name in ("reward", "unknown", "base", "policy", "plain")]
    done = subprocess.run(
        [sys.executable, tmp_path / "doors.py", *names, tmp_path / "rows.jsonl", tmp_path / "out"],
        input="y\n" * 200,
        capture_output=True,
        text=True,
        env=os.environ | {"HF_MODULES_CACHE": str(tmp_path / "modules"), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        cwd=tmp_path,
        timeout=280,
    )
    assert "[y/N]" not in done.stdout + done.stderr
    assert not marker.exists() and not (tmp_path / "modules" / "transformers_modules" / "evil.py").exists()
    assert "scorer 0: went through" in done.stdout and "export 0: UserError" in done.stdout, done.stdout
