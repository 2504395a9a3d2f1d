"""What the app is asked to show."""

from dataclasses import dataclass, field
from pathlib import Path

from wildreward.common.errors import UserError
from wildreward.scoring.load import MODEL_HELP, LoadingConfig

PARTS = {"model": "reward-model", "dataset": "dataset", "policy": "policy"}
"""Option → folder of a run."""


@dataclass(kw_only=True)
class DemoConfig(LoadingConfig):
    """What to show, and where. At least one of `run`, `model`, `dataset` and `policy`."""

    run: str | None = field(
        default=None,
        metadata={
            "help": "Folder of a run as quickstart writes it: dataset/, reward-model/ and policy/, each shown if it is there."
        },
    )
    model: str | None = field(default=None, metadata={"help": MODEL_HELP})
    dataset: str | None = field(default=None, metadata={"help": "Feedback dataset: folder or Hub id."})
    policy: str | None = field(default=None, metadata={"help": "Folder that train-dpo wrote."})
    dataset_revision: str | None = field(default=None, metadata={"help": "Revision of a dataset on the Hub."})
    host: str = field(
        default="127.0.0.1",
        metadata={"help": "Address to listen on: this machine alone; 0.0.0.0 lets everyone who reaches it in."},
    )
    port: int = field(default=7860, metadata={"help": "Port to listen on."})

    def parts(self) -> dict[str, str]:
        """Option → folder, id or URL of what there is to show: what is named, and the rest from the run's folder.

        Raises:
            UserError: nothing.
        """
        named = {part: name for part in PARTS if (name := getattr(self, part))}
        if self.run is None:
            if not named:
                raise UserError("nothing to show; give --run, --model, --dataset or --policy")
            return named
        folders = {part: Path(self.run) / folder for part, folder in PARTS.items()}
        found = {part: str(folder) for part, folder in folders.items() if folder.is_dir()} | named
        if not found:
            expected = ", ".join(f"{folder}/" for folder in PARTS.values())
            raise UserError(
                f"--run {self.run} holds none of {expected}; expected the output folder of `wildreward quickstart`"
            )
        return found
