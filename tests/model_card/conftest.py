"""A running Hub double, clients of it, and small folders to push."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import HfApi, constants

from tests.hub_double import HubDouble, clean_env
from tests.tiny import reward_model, tokenizer_for

ROOT = Path(__file__).parents[2]


BASE = "sentence-transformers/all-MiniLM-L6-v2"


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with HubDouble() as double:
        yield double


@pytest.fixture
def api(hub, monkeypatch, tmp_path):
    """The real client in this process, without Xet; its cache holds the card of the base model only."""
    base = tmp_path / "hf-cache" / f"models--{BASE.replace('/', '--')}"
    for path, text in (("refs/main", "0" * 40), (f"snapshots/{'0' * 40}/README.md", "---\nlicense: apache-2.0\n---\n")):
        (base / path).parent.mkdir(parents=True)
        (base / path).write_text(text)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf-cache"))
    return HfApi(endpoint=hub.url, token=hub.token)


@pytest.fixture(scope="session")
def reward_folder_made_once(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "reward-model"
    model = reward_model("bert")
    model.config.base_model = BASE
    model.save_pretrained(folder)
    tokenizer_for("bert").save_pretrained(folder)
    summary = {
        "base_model": BASE, "dataset": "user/chats",
        "arguments": {"learning_rate": 2e-5, "output_dir": "/home/me", "head": "coral"},
        "rows": {"train": 1234, "validation": 100, "left_out": {}}, "steps": 77,
        "versions": {"transformers": "5.23", "torch": "2.13"},
    }  # fmt: skip
    (folder / "training_summary.json").write_text(json.dumps(summary))
    return folder


@pytest.fixture
def reward_folder(reward_folder_made_once, tmp_path):
    """A complete reward model folder, with what training leaves beside it."""
    folder = tmp_path / "reward-model"
    shutil.copytree(reward_folder_made_once, folder)
    write_results(folder, 0.71)
    (folder / "figures").mkdir()
    (folder / "figures" / "score_by_label.png").write_bytes(b"\x89PNG\r\n\0picture")
    (folder / "training_args.bin").write_bytes(b"a pickle")
    (folder / "settings.json").write_text("{}")
    (folder / "work" / "scores").mkdir(parents=True)
    (folder / "work" / "scores" / "part-0.parquet").write_bytes(b"cache")
    (folder / "checkpoint-10").mkdir()
    (folder / "checkpoint-10" / "model.safetensors").write_bytes(b"weights")
    return folder


def write_results(folder, auc):
    """results.json as `wildreward evaluate` writes it, as far as a card reads it."""
    estimate = {"value": auc, "low": auc - 0.05, "high": auc + 0.05}
    results = {
        "format": "wildreward-results/1",
        "model": {"name": "reward-model", "kind": "wildreward", "fingerprint": "0"},
        "versions": {"torch": "2.13"},
        "datasets": {
            "user/chats": {
                "split": "test", "n": 100, "users": 9, "roc_auc": estimate, "languages": {"English": {}},
                "read_from": [{"repo": "user/chats", "revision": "abc"}], "figures": ["score_by_label.png"],
            }
        },
        "benchmarks": {},
    }  # fmt: skip
    (Path(folder) / "results.json").write_text(json.dumps(results))


def python(code, hub, home, token=True, **extra):
    """Run code in a fresh process whose Hub is the double."""
    env = clean_env(**hub.env(home, token), OMP_NUM_THREADS="1", **extra)
    return subprocess.run([sys.executable, "-c", code], env=env, cwd=home, capture_output=True, text=True, timeout=280)


def command(folder, repo_id, hub, home, *flags):
    """`wildreward push` as a child process, started and not waited for."""
    code = (
        "import sys; from wildreward.model_card.command import main, PushConfig; "
        "main(PushConfig(path=sys.argv[1], repo_id=sys.argv[2], private='--private' in sys.argv))"
    )
    words = [sys.executable, "-c", code, str(folder), repo_id, *flags]
    env = clean_env(**hub.env(home), PYTHONPATH=str(ROOT))
    return subprocess.Popen(
        words, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=os.fspath(home)
    )
