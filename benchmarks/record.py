"""What benchmarks share: their part of the work, and keeping what they measured.

Results are in `benchmarks/results/NAME.json`, where the README's table reads them.
"""

import argparse
import json
import shlex
import sys
from importlib.metadata import version
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results"
LIBRARIES = ("torch", "transformers", "datasets", "trl")


def record(name: str, rows: list[dict[str, str | float]]) -> None:
    """Write the rows of one benchmark, each `{"measure", "ours", "alternative", "ratio"}` (text or numbers).

    The command that was run and the machine's shape are kept with them; paths are not.
    """
    script = f"benchmarks/{Path(sys.argv[0]).name}"
    result = {
        "command": shlex.join(["python", script, *sys.argv[1:]]),
        "device": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"{torch.get_num_threads()} CPU threads",
        "versions": {library: version(library) for library in LIBRARIES},
        "rows": rows,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")


def part_of(given: str | None, parser: argparse.ArgumentParser) -> tuple[int, int]:
    """(which, of how many) of `--part I/N`; (0, 1) without one."""
    part, _, parts = (given or "0/1").partition("/")
    if not (part.isdecimal() and parts.isdecimal() and int(part) < int(parts)):
        parser.error(f"--part is {given}; expected such as 0/4 to 3/4")
    return int(part), int(parts)
