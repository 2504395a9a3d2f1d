"""What the package imports is what setup.cfg declares."""

import ast
import configparser
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DISTRIBUTION = {
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
    "huggingface_hub": "huggingface-hub",
    "prometheus_client": "prometheus-client",
    "presidio_analyzer": "presidio-analyzer",
}


def imported(path: Path) -> set[str]:
    """Top-level names of the modules that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.partition(".")[0])
    return names


def requirements(without: tuple[str, ...] = ()) -> dict[str, str]:
    """Each line of install_requires and of the extras by its package's name."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extras = setup["options.extras_require"]
    blocks = [setup["options"]["install_requires"], *(extras[name] for name in extras if name not in without)]
    return {re.split(r"[<>=\[]", line)[0]: line for block in blocks for line in block.split()}


def test_every_import_is_declared():
    declared = set(requirements())
    undeclared = {
        f"{path.relative_to(ROOT)}: {name}"
        for folder in (ROOT / "wildreward", *(ROOT / "wildreward").iterdir())
        if folder.is_dir()
        for path in folder.rglob("*.py")
        for name in imported(path) - sys.stdlib_module_names - {"wildreward"}
        if DISTRIBUTION.get(name, name) not in declared
    }
    assert undeclared == set()


def test_the_lowest_versions_are_those_that_are_tested():
    lines = (ROOT / "constraints-lowest.txt").read_text().split()
    tested = {name.lower().replace("_", "-"): version for name, _, version in (line.partition("==") for line in lines)}
    for name, line in requirements(without=("dev", "docs", "names")).items():  # no test loads what is in `names`
        _, bounded, lowest = line.partition(">=")
        if bounded:
            assert re.fullmatch(rf"{re.escape(lowest)}(\.0)*", tested[name]), f"{line}, but {tested[name]} is tested"


def test_the_package_carries_the_files_it_reads(monkeypatch):
    setuptools = pytest.importorskip("setuptools.dist")
    monkeypatch.chdir(ROOT)
    distribution = setuptools.Distribution()
    distribution.parse_config_files()
    command = distribution.get_command_obj("build_py")
    command.ensure_finalized()
    carried = {f"{package}/{name}" for package, _, _, names in command.data_files for name in names}
    assert carried >= {
        "wildreward.dataset_builder/data/feedback_labeler/adapters.safetensors",
        "wildreward.modeling_wildreward/reward_template.jinja",
        "wildreward.demo/style.css",
        "wildreward.model_card/model_card.md.jinja",
        "wildreward.dataset_builder.labelers/phrases.json",
        "wildreward.scoring.server/openapi.yaml",
    }
    assert not any(name.endswith(".jsonl") for name in carried)
