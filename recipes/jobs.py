# /// script
# requires-python = ">=3.11"
# dependencies = ["wildreward[llm,peft,plots]", "huggingface-hub>=2.0"]
#
# [tool.uv.sources]
# wildreward = { path = "/wheels/wildreward-0.1.0-py3-none-any.whl" }
#
# [tool.hf-jobs]
# timeout = "12h"
# secrets = ["HF_TOKEN"]
# volumes = ["./dist:/wheels", "./recipes:/recipes"]
# ///
"""Run a command on Hugging Face Jobs, in a folder that a bucket keeps from one job to the next.

    make wheel   # the job installs dist/wildreward-*.whl
    hf jobs uv run --flavor cpu-upgrade recipes/jobs.py you/wildreward wildreward build-dataset \
        --source allenai/WildChat-4.8M --labeler llm --base-url https://router.huggingface.co/v1 \
        --api-key-env HF_TOKEN --model openai/gpt-oss-120b --output runs/wildfb

The bucket's files are copied to the job's machine, the command runs there, and what it changed goes back; keep nothing else
in the bucket. The command is
interrupted (Ctrl-C) before the job's time is over: run the same job again, and it goes on. The folder `recipes/` of the
checkout is at hand as `/recipes`.
"""

import argparse
import signal
import subprocess
import sys
from pathlib import Path

from huggingface_hub import HfApi


def main() -> int:
    """Copy in, run, copy out; the command's exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bucket", help="OWNER/NAME; made, private, where there is none")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="what to run, with its options")
    parser.add_argument(
        "--hours", type=float, default=11, help="(before OWNER/NAME) interrupt the command after so long"
    )
    arguments = parser.parse_args()

    api, here, bucket = HfApi(), "work", f"hf://buckets/{arguments.bucket}"
    Path(here).mkdir(exist_ok=True)
    api.create_bucket(arguments.bucket, private=True, exist_ok=True)
    api.sync_bucket(bucket, here)
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # ignored where a shell started this with &, and then by the command
    run = subprocess.Popen(arguments.command, cwd=here)
    # a job that is cancelled or stopped gets this; the command ends, and its files are kept
    signal.signal(signal.SIGTERM, lambda *_: run.send_signal(signal.SIGINT))
    try:
        run.wait(arguments.hours * 3600)
    except subprocess.TimeoutExpired:
        run.send_signal(signal.SIGINT)
    finally:
        run.wait()
        api.sync_bucket(here, bucket, delete=True)
    return run.returncode


if __name__ == "__main__":
    sys.exit(main())
