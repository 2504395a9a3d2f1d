"""One training run, in a process of its own: `python -m tests.training.reward_child FOLDER '{"setting": …}'`.

`backbone` among the settings names the folder of the pretrained backbone. Writes `losses.json` and `weights.pt` into
FOLDER when it finishes.
"""

import json
import sys
import time

import torch
from transformers import AutoTokenizer

from tests.training.reward_tiny import config, losses, toy_dataset, toy_pairs
from wildreward.modeling_wildreward import WildRewardForSequenceClassification
from wildreward.training.resume import last_complete_checkpoint
from wildreward.training.reward_trainer import OrdinalRewardTrainer


def main(folder: str, settings: dict) -> None:
    backbone = settings.pop("backbone")
    dropout = settings.pop("dropout", 0.0)
    pairs = settings.pop("pairs", 0)
    slow = settings.pop("seconds_a_step", 0.0)
    args = config(folder, disable_dropout=not dropout, **settings)
    torch.manual_seed(0)
    model = WildRewardForSequenceClassification.from_backbone(backbone, max_length=128)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = dropout

    class Paced(OrdinalRewardTrainer):
        def training_step(self, *arguments, **named):
            time.sleep(slow)
            return super().training_step(*arguments, **named)

    trainer = Paced(
        model=model,
        args=args,
        train_dataset=toy_dataset(),
        train_pairs=toy_pairs(pairs) if pairs else None,
        processing_class=AutoTokenizer.from_pretrained(backbone),
    )
    checkpoint = last_complete_checkpoint(folder, remove_partial=True)
    print("from", checkpoint.name if checkpoint else "the beginning", flush=True)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if trainer.is_world_process_zero():
        with open(f"{folder}/losses.json", "w") as handle:
            json.dump(losses(trainer), handle)
        torch.save(trainer.accelerator.unwrap_model(trainer.model_wrapped).state_dict(), f"{folder}/weights.pt")
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
