"""What the README shows is true: its commands parse, its code runs, its tables are those of the result files.

Links of all pages lead somewhere, and the site (`mkdocs.yml`, `docs/pages.py`) has every page and every option.
"""

import contextlib
import importlib.util
import io
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
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


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


def anchors(page):
    """Of a page's headings, as GitHub makes them; `make docs` checks the site's."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    return {
        re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in re.findall(r"^#+ (.*)$", text, flags=re.M)
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        name, _, anchor = target.partition("#")
        if not name.startswith("http"):
            leads_to = page.parent / name if name else page
            assert leads_to.exists(), target
            assert not anchor or anchor in anchors(leads_to), target


def test_the_site_has_every_page():
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    assert sorted(re.findall(r"[\w-]+\.md", str(nav))) == [page.name for page in PAGES if page.parent.name == "docs"]


def test_the_site_lists_the_options_of_every_command():
    spec = importlib.util.spec_from_file_location("pages", ROOT / "docs" / "pages.py")
    pages = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pages)
    sections = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", pages.options(), flags=re.M | re.S))
    assert list(sections) == list(commands.COMMANDS)
    for name, command in commands.COMMANDS.items():
        told = io.StringIO()
        with contextlib.redirect_stdout(told), pytest.raises(SystemExit):
            commands.parse(name, importlib.import_module(command.module).CONFIGS, ["--help"])
        listed = re.findall(r"^\| `--([\w-]+)`", sections[name], flags=re.M)
        helped = re.findall(r"^  --([\w-]+)", told.getvalue(), flags=re.M)
        assert sorted(listed) == sorted({option for option in helped if not option.startswith(("no-", "help"))}), name


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_names_only_options_that_exist(path):
    names = set(yaml.safe_load(path.read_text())) - {"env"}
    command = "train-dpo" if path.stem.startswith("dpo-") else "train-reward"
    module = importlib.import_module(commands.COMMANDS[command].module)
    known = {name for config in module.CONFIGS for name in config.__dataclass_fields__}
    assert names <= known, names - known
