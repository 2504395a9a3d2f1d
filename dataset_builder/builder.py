"""The builder as a `datasets` builder class, for use from Python.

    from wildreward.dataset_builder import WildFeedback

    builder = WildFeedback(source="chats.jsonl", labeler="cues")   # or config_name="unpaired_preference"
    builder.download_and_prepare()
    data = builder.as_dataset()                                    # DatasetDict with train and test

`datasets` caches the result by the arguments and the state of the source. The dataset folder itself (report, card,
ledger) is kept under the cache folder too; its path is `builder.folder`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from wildreward.bundled import resolve
from wildreward.dataset_builder.pipeline import build_dataset
from wildreward.dataset_builder.report import nothing_kept
from wildreward.dataset_builder.schema import INSTANCE, UNPAIRED
from wildreward.dataset_builder.writer import SPLITS
from wildreward.errors import UserError

_FOLDERS = {"default": ("data", INSTANCE), "unpaired_preference": ("unpaired_preference", UNPAIRED)}


@dataclass
class WildFeedbackConfig(datasets.BuilderConfig):
    """What to build from what. `options` are further arguments of `build_dataset`."""

    source: str = ""
    labeler: str = "cues"
    options: dict[str, Any] = field(default_factory=dict)
    source_state: str = ""


class WildFeedback(datasets.ArrowBasedBuilder):
    """Feedback instances from chats.

    Args:
        source: a file, a folder or a Hub dataset id.
        labeler: cues, llm, transformers or file.
        options: further arguments of `build_dataset`, such as `on_bad_input` or `num_workers`.
        config_name: "default" or "unpaired_preference".
        cache_dir: as in `datasets`.
    """

    BUILDER_CONFIG_CLASS = WildFeedbackConfig
    BUILDER_CONFIGS = [WildFeedbackConfig(name=name, version=datasets.Version("1.0.0")) for name in _FOLDERS]
    DEFAULT_CONFIG_NAME = "default"

    def __init__(
        self, source: str, labeler: str = "cues", options: dict[str, Any] | None = None, **arguments: Any
    ) -> None:
        arguments.setdefault("config_name", self.DEFAULT_CONFIG_NAME)
        super().__init__(
            source=source, labeler=labeler, options=options or {}, source_state=_state(source), **arguments
        )

    @property
    def folder(self) -> Path:
        """The dataset folder this builder makes; both configurations share it."""
        fingerprint = self.config_id.split("-", 1)[-1]
        return Path(self._cache_dir_root) / "wildreward" / fingerprint

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(features=datasets.Features.from_arrow_schema(_FOLDERS[self.config.name][1]))

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        report = build_dataset(self.config.source, self.folder, labeler=self.config.labeler, **self.config.options)
        if reason := nothing_kept(report):
            raise UserError(reason)
        files = {split: sorted((self.folder / _FOLDERS[self.config.name][0]).glob(f"{split}-*")) for split in SPLITS}
        # `datasets` cannot hold a split without rows.
        return [datasets.SplitGenerator(split, {"files": found}) for split, found in files.items() if found]

    def _generate_tables(self, files: list[Path]) -> Iterator[tuple[datasets.builder.Key, pa.Table]]:
        for number, file in enumerate(files):
            for index, batch in enumerate(pq.ParquetFile(file).iter_batches(1_000)):
                yield datasets.builder.Key(number, index), pa.Table.from_batches([batch])


def _state(source: str) -> str:
    """Changes when a local source does."""
    path = Path(resolve(source))
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return ",".join(f"{file.name}:{file.stat().st_size}:{file.stat().st_mtime_ns}" for file in files if file.exists())
