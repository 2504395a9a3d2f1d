"""What the README shows is true: its commands parse, its code runs, its tables are those of the result files."""

import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.tiny import reward_model, tokenizer_for
from wildreward import RewardScorer, commands

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.S)


def command_lines():
    text = "\n".join(blocks("bash")).replace("\\\n", " ")
    found = [shlex.split(command) for command in re.findall(r"^(?:.* -m )?wildreward (.*)$", text, flags=re.M)]
    return [words for words in found if words and words[0] in commands.COMMANDS]


def test_the_readme_shows_the_five_commands_of_a_real_run_and_two_for_what_users_have():
    real_run = ["build-dataset", "train-reward", "evaluate", "train-dpo", "push"]
    assert [words[0] for words in command_lines()] == [*real_run, "build-dataset", "evaluate"]


@pytest.mark.parametrize("words", command_lines(), ids=lambda words: words[0])
def test_every_command_parses(words, monkeypatch):
    monkeypatch.chdir(ROOT)
    if "bf16" in " ".join(words) or words[0] in ("train-reward", "train-dpo"):
        words = [*words, "--bf16", "False"]  # the recipes are for GPUs; parsing them needs none
    module = importlib.import_module(commands.COMMANDS[words[0]].module)
    assert commands.parse(words[0], module.CONFIGS, words[1:])


@pytest.mark.parametrize("number", [0, 1])
def test_python_runs(number, tmp_path, capsys):
    RewardScorer(reward_model("llama"), tokenizer_for("llama")).save_pretrained(tmp_path / "model")
    code = blocks("python")[number].replace("runs/quickstart/reward-model", str(tmp_path / "model"))
    exec(compile(code, "README.md", "exec"), {})
    assert re.search(r"\d\.\d+", capsys.readouterr().out)


def test_tables_are_those_of_the_result_files():
    done = subprocess.run([sys.executable, "benchmarks/readme_tables.py", "--check"], cwd=ROOT, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_names_only_options_that_exist(path):
    names = set(yaml.safe_load(path.read_text())) - {"env"}
    command = "train-dpo" if path.stem.startswith("dpo-") else "train-reward"
    module = importlib.import_module(commands.COMMANDS[command].module)
    known = {name for config in module.CONFIGS for name in config.__dataclass_fields__}
    assert names <= known, names - known
