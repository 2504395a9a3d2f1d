"""Which checkpoint this process would go on from: `torchrun … -m tests.training.resume_child FOLDER`."""

import os
import sys

from transformers import TrainingArguments

from wildreward.common.errors import UserError
from wildreward.training.resume import choose_checkpoint

if __name__ == "__main__":
    args = TrainingArguments(sys.argv[1], use_cpu=True, ddp_backend="gloo")
    assert args.world_size == 2 and args.device.type == "cpu"
    try:
        found = choose_checkpoint(sys.argv[1], args).name
    except UserError as error:
        found = str(error)
    os.write(1, f"{args.process_index} {found}\n".encode())
