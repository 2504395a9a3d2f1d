"""What lies in recipes/ for other machines parses there: shell, script metadata, and the options of the commands."""

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from wildreward import commands

ROOT = Path(__file__).parents[2]
JOBS = ROOT / "recipes" / "jobs.py"
SLURM = sorted((ROOT / "recipes" / "slurm").glob("*.sbatch"))
SHELL = [*SLURM, ROOT / "benchmarks" / "gpu.sh"]


def commands_in(path):
    """The words of every `wildreward COMMAND …` of a file; its variables keep their names."""
    text = path.read_text().replace("\\\n", " ")
    for line in re.findall(r"\bwildreward ([a-z]+(?:-[a-z]+)? +--.*)$", text, flags=re.M):
        yield shlex.split(line.rstrip("'"))


@pytest.mark.parametrize("path", SHELL, ids=lambda path: path.name)
def test_shell_parses(path):
    done = subprocess.run(["bash", "-n", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", [*SLURM, JOBS], ids=lambda path: path.name)
def test_commands_parse(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    found = list(commands_in(path))
    assert found
    for words in found:
        words = [word.replace("$RECIPE", "recipes/qwen3-8b.yaml") for word in words]
        words += ["--bf16", "False"] if words[0] == "train-reward" else []  # parsing needs no GPU
        module = import_module(commands.COMMANDS[words[0]].module)
        assert commands.parse(words[0], module.CONFIGS, words[1:])


def test_the_job_installs_the_wheel_that_is_built():
    block = re.search(r"^# /// script\n(.*?)^# ///$", JOBS.read_text(), flags=re.M | re.S)[1]
    header = tomllib.loads("".join(line.removeprefix("#").removeprefix(" ") for line in block.splitlines(True)))
    version = re.search(r"^version = (.*)$", (ROOT / "setup.cfg").read_text(), flags=re.M)[1]
    assert header["tool"]["uv"]["sources"]["wildreward"]["path"] == f"/wheels/wildreward-{version}-py3-none-any.whl"


@pytest.mark.skipif(
    importlib.util.find_spec("huggingface_hub.cli._uv_script_header") is None, reason="this hf reads no [tool.hf-jobs]"
)
def test_hf_jobs_reads_the_header(tmp_path):
    code = "import sys; from huggingface_hub.cli.hf import main; sys.argv[0] = 'hf'; main()"
    words = ["jobs", "uv", "run", "--dry-run", str(JOBS), "you/runs", "wildreward", "score", "--model", "M"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True, text=True, timeout=120, env={**os.environ, "HF_HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.search(r"args +you/runs wildreward score --model M", done.stdout)
    assert re.search(r"timeout +12h \(from script\)", done.stdout) and "HF_TOKEN=<not set>" in done.stdout


class Bucket:
    """Stands in for `HfApi`: a bucket that is a folder."""

    def __init__(self, folder):
        self.folder = folder

    def create_bucket(self, name, *, private, exist_ok):
        assert name == "you/runs" and private and exist_ok
        self.folder.mkdir(exist_ok=True)

    def sync_bucket(self, source, target, delete=False):
        source, target = (self.folder if path == "hf://buckets/you/runs" else Path(path) for path in (source, target))
        if delete:
            shutil.rmtree(target)
        shutil.copytree(source, target, dirs_exist_ok=True)


def test_a_job_goes_on_where_the_last_one_was_interrupted(tmp_path, monkeypatch):
    jobs = importlib.util.module_from_spec(spec := importlib.util.spec_from_file_location("jobs", JOBS))
    spec.loader.exec_module(jobs)
    monkeypatch.setattr(jobs, "HfApi", lambda: Bucket(tmp_path / "bucket"))
    step = "from pathlib import Path; import time; f = Path('steps'); f.open('a').write('x'); time.sleep({})"

    def job(number, seconds, hours):
        (tmp_path / number).mkdir()
        monkeypatch.chdir(tmp_path / number)
        words = ["jobs.py", "--hours", str(hours), "you/runs", sys.executable, "-c", step.format(seconds)]
        monkeypatch.setattr(sys, "argv", words)
        return jobs.main()

    assert job("first", 60, 5 / 3600) != 0
    assert (tmp_path / "bucket" / "steps").read_text() == "x"
    assert job("second", 0, 1) == 0
    assert (tmp_path / "bucket" / "steps").read_text() == "xx"
