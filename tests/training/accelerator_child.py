"""The command line in a process that takes the CPU for an accelerator: `python -m tests.training.accelerator_child …`.

accelerate shards with FSDP on accelerators only. Torch itself shards on the CPU too, over gloo, so here accelerate is told
that the processes' devices are accelerators; everything after that is what happens on GPUs.
"""

import os

import torch
from accelerate.state import DistributedType, PartialState

from wildreward.cli import run


def _gloo(self, cpu: bool = False, sagemaker_dp: bool = False, backend: str | None = None):
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo")
    return "gloo", DistributedType.MULTI_GPU


def _cpu(self) -> None:
    if self.device is None:
        self.device = torch.device("cpu")


if __name__ == "__main__":
    if os.environ.get("ACCELERATE_USE_FSDP") == "true":
        PartialState._prepare_backend, PartialState.set_device = _gloo, _cpu
    run()
