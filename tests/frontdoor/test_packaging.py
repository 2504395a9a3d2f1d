"""What the package imports is what setup.cfg declares."""

import ast
import configparser
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DISTRIBUTION = {"sklearn": "scikit-learn", "yaml": "pyyaml", "huggingface_hub": "huggingface-hub"}


def imported(path: Path) -> set[str]:
    """Top-level names of the modules that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.partition(".")[0])
    return names


def test_every_import_is_declared():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    required = [setup["options"]["install_requires"], *setup["options.extras_require"].values()]
    declared = {re.split(r"[<>=\[]", line)[0] for block in required for line in block.split()}
    folders = [line.partition(" = ")[2] for line in setup["options"]["package_dir"].split("\n") if line]
    undeclared = {
        f"{path.relative_to(ROOT)}: {name}"
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        for name in imported(path) - sys.stdlib_module_names - {"wildreward"}
        if DISTRIBUTION.get(name, name) not in declared
    }
    assert undeclared == set()


def test_the_package_carries_the_files_it_reads(monkeypatch):
    setuptools = pytest.importorskip("setuptools.dist")
    monkeypatch.chdir(ROOT)
    distribution = setuptools.Distribution()
    distribution.parse_config_files()
    command = distribution.get_command_obj("build_py")
    command.ensure_finalized()
    carried = {f"{package}/{name}" for package, _, _, names in command.data_files for name in names}
    assert carried >= {
        "wildreward.dataset_builder/data/feedback_classifier.safetensors",
        "wildreward.modeling_wildreward/reward_template.jinja",
        "wildreward.model_card/model_card.md.jinja",
        "wildreward.dataset_builder.labelers/phrases.json",
    }
    assert not any(name.endswith(".jsonl") for name in carried)
