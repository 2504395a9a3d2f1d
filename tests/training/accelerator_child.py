"""The command line in a process that takes the CPU for an accelerator: `python -m tests.training.accelerator_child …`.

accelerate shards with FSDP on accelerators only. Torch itself shards on the CPU too, over gloo, so here accelerate is told
that the processes' devices are accelerators; everything after that is what happens on GPUs.
"""

import os
import sys

import torch
from accelerate.state import DistributedType, PartialState
from torch.distributed.tensor import DTensor

from wildreward.cli import run
from wildreward.training import reward_command
from wildreward.training.reward_trainer import OrdinalRewardTrainer


def _gloo(self, cpu: bool = False, sagemaker_dp: bool = False, backend: str | None = None):
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo")
    return "gloo", DistributedType.MULTI_GPU


def _cpu(self) -> None:
    if self.device is None:
        self.device = torch.device("cpu")


def _say(text: str) -> None:
    """One line, in one piece: two processes share the output."""
    sys.stdout.flush()
    os.write(1, f"{text}\n".encode())


class Telling(OrdinalRewardTrainer):
    """Says what shards the model, where training goes on, and whether what leaves the model is rounded."""

    def evaluation_loop(self, *args, **kwargs):
        output = super().evaluation_loop(*args, **kwargs)
        logits = torch.from_numpy(output.predictions)
        rounded = torch.equal(logits.bfloat16().float(), logits)
        _say(f"{len(logits)} logits are {'rounded to bfloat16' if rounded else 'float32'}")
        return output

    def train(self, resume_from_checkpoint: str | None = None):
        if resume_from_checkpoint:
            _say(f"resumed from {os.path.basename(resume_from_checkpoint)}")
        result = super().train(resume_from_checkpoint=resume_from_checkpoint)
        if self.is_deepspeed_enabled:
            _say(f"sharded by deepspeed stage {self.model_wrapped.zero_optimization_stage()}")
        elif any(isinstance(weight, DTensor) for weight in self.model_wrapped.parameters()):
            _say("sharded by fsdp2")
            if policy := self.accelerator.state.fsdp_plugin.mixed_precision_policy:
                _say(f"layers in {policy.param_dtype}, gradients summed in {policy.reduce_dtype}")
        return result


if __name__ == "__main__":
    reward_command.OrdinalRewardTrainer = Telling
    if os.environ.get("ACCELERATE_USE_FSDP") == "true":
        PartialState._prepare_backend, PartialState.set_device = _gloo, _cpu
    run()
