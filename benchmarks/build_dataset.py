"""Time and memory of `build-dataset` on all of ShareGPT with given labels, implicit feedback included.

    python benchmarks/build_dataset.py [--double] [--workers 2]

Prints wall-clock and processor seconds, peak memory summed over all processes, the intermediates, and the figures of the published scripts on the same input. `--double` also builds from twice the input.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from record import record

PUBLISHED = {"seconds": 93.0, "gigabytes": 1.35, "intermediates_megabytes": 1700.0}


def processes_of(root: int) -> list[int]:
    """The process and all that descend from it."""
    found = [root]
    for pid in found:
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                found += [int(child) for child in task.read_text().split()]
            except OSError:
                continue
    return found


def resident(pid: int) -> int:
    """Resident memory in bytes."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def measured(command: list[str]) -> dict[str, float]:
    """Run a command to its end: seconds, processor seconds, and peak memory summed over all its processes."""
    peak = 0
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.monotonic()
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    ended = threading.Event()

    def watch():
        nonlocal peak
        while not ended.wait(0.2):
            peak = max(peak, sum(map(resident, processes_of(process.pid))))

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    seconds = time.monotonic() - start
    ended.set()
    watcher.join()
    if code:
        sys.exit(f"{' '.join(command)} failed with exit code {code}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "cpu": cpu, "gigabytes": peak / 1e9}


def build(source: str, output: Path, workers: int, labeler: list[str]) -> list[str]:
    from wildreward.packages import minilm_folder

    wildreward = [sys.executable, "-m", "wildreward", "build-dataset", "--on_bad_input", "skip"]
    wildreward += ["--classifier-base", minilm_folder(), "--mining-encoder", minilm_folder()]
    return [*wildreward, "--source", source, "--output", str(output), "--num_workers", str(workers), *labeler]


def write_labels(levels: Path, path: Path, copies: int) -> None:
    """The levels of an earlier build as a labels file; for every copy of the input under its own ids."""
    import pyarrow.parquet as pq

    with open(path, "w") as handle:
        for row in pq.read_table(levels).to_pylist():
            for copy in range(copies):
                id_ = row["id"] if not copy else f"c{copy}{row['id']}"
                handle.write(json.dumps({"id": id_, "level": row["level"]}) + "\n")


def write_double(source: Path, path: Path) -> None:
    """The input twice; in the second copy ids and texts are changed so that nothing counts as a duplicate."""
    from wildreward.dataset_builder.sources.files import InputErrors
    from wildreward.dataset_builder.sources.readers import find_slices, read_slice

    errors = InputErrors(skip=True)
    with open(path, "w") as handle:
        handle.write("[\n")
        first = True
        for copy in range(2):
            for piece in find_slices(str(source), errors):
                for record in read_slice(piece, ["conversations"], errors):
                    if copy:
                        record = {"id": f"c{copy}{record['id']}", "conversations": record["conversations"]}
                        for message in record["conversations"]:
                            message["value"] += " " if message["value"] else ""
                    handle.write(("" if first else ",\n") + json.dumps(record, ensure_ascii=False, indent=2))
                    first = False
        handle.write("\n]")


def largest_file(folder: Path) -> int:
    return max(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--double", action="store_true", help="also build from twice the input")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--repeat", type=int, default=1)
    options = parser.parse_args()
    from wildreward.packages import sharegpt_file

    source, rows = Path(sharegpt_file()), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first = measured(build(str(source), folder / "labelled", options.workers, ["--mining_window", "0"]))
        print(f"labelled by the classifier and built, without implicit feedback: {first['seconds']:.1f} s")
        for copies in (1, 2) if options.double else (1,):
            given = source
            if copies == 2:
                given = folder / "double.json"
                write_double(source, given)
            labels = folder / f"labels{copies}.jsonl"
            write_labels(folder / "labelled" / "work" / "levels.parquet", labels, copies)
            for run in range(options.repeat):
                output = folder / f"out{copies}-{run}"
                arguments = ["--labeler", "file", "--labels", str(labels)]
                result = measured(build(str(given), output, options.workers, arguments))
                show(copies, given, output, result)
                rows += result_rows(copies, output, result)
        record("build_dataset", rows)


def result_rows(copies: int, output: Path, result: dict[str, float]) -> list[dict]:
    turns = json.loads((output / "build_report.json").read_text())["turns"]
    published = PUBLISHED if copies == 1 else {}
    return [
        {
            "measure": f"{what} to build a dataset from {turns:,} turns with given labels; alternative: the authors' scripts, measured on another machine",
            "ours": result[key],
            "alternative": published.get(key, ""),
            "ratio": published[key] / result[key] if published else "",
        }
        for what, key in (("seconds", "seconds"), ("peak GB", "gigabytes"))
    ]


def show(copies: int, source: Path, output: Path, result: dict[str, float]) -> None:
    report = json.loads((output / "build_report.json").read_text())
    work = sum(path.stat().st_size for path in (output / "work").rglob("*") if path.is_file()) / 1e6
    print(
        f"input ×{copies}: {report['conversations']:,} conversations, {report['turns']:,} turns, {report['kept']:,} kept"
    )
    print(f"  seconds          {result['seconds']:8.1f}   by stage: {report['seconds']}")
    print(f"  processor        {result['cpu']:8.1f} s over all processes")
    print(f"  peak memory      {result['gigabytes']:8.2f} GB resident, summed over all processes")
    print(
        f"  intermediates    {work:8.1f} MB in all, largest {largest_file(output / 'work') / 1e6:.1f} MB, input {source.stat().st_size / 1e6:.1f} MB"
    )
    if copies == 1:
        print(
            f"  published        {PUBLISHED['seconds']:8.1f} s, {PUBLISHED['gigabytes']} GB, "
            f"{PUBLISHED['intermediates_megabytes']:.0f} MB written; ratio {PUBLISHED['seconds'] / result['seconds']:.1f}× faster"
        )


if __name__ == "__main__":
    main()
