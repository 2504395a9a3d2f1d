"""The builder as a `datasets` builder class, for use from Python.

    from wildreward.dataset_builder import WildFeedback

    builder = WildFeedback(source="chats.jsonl", labeler="classifier")   # or config_name="unpaired_preference"
    builder.download_and_prepare()
    data = builder.as_dataset()                                    # DatasetDict with train and test

`datasets` caches the result by what it depends on: the settings of the build, the source's content, the labels or the
labeler. The dataset folder itself (report, card, ledger) is kept under the cache folder too; its path is `builder.folder`.
To ask again what a server failed on, give the option `ask_failed_again` and
`download_and_prepare(download_mode="force_redownload")`.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from wildreward.common.errors import UserError
from wildreward.dataset_builder.build import build_dataset
from wildreward.dataset_builder.export import SPLITS
from wildreward.dataset_builder.prepare import prepare
from wildreward.dataset_builder.report import nothing_kept
from wildreward.dataset_builder.schemas import INSTANCE, UNPAIRED
from wildreward.dataset_builder.settings import BuildSettings

_FOLDERS = {"default": ("data", INSTANCE), "unpaired_preference": ("unpaired_preference", UNPAIRED)}


@dataclass
class WildFeedbackConfig(datasets.BuilderConfig):
    """What to build from what. `options` are further options of `build_dataset`."""

    source: str = ""
    labeler: str = "classifier"
    options: dict[str, Any] = field(default_factory=dict)
    fingerprint: str = ""

    def create_config_id(self, config_kwargs: dict[str, Any], custom_features: Any = None) -> str:
        """What the cache is named after. (By default every option would count, the number of workers too.)"""
        return f"{self.name}-{self.fingerprint}"


class WildFeedback(datasets.ArrowBasedBuilder):
    """Feedback instances from chats.

    Args:
        source: a file, a folder or a Hub dataset id.
        labeler: classifier, llm, transformers or file.
        options: further options of `build_dataset`, such as `on_bad_input` or `num_workers`.
        config_name: "default" or "unpaired_preference".
        cache_dir: as in `datasets`.

    Raises:
        UserError: for everything that can be found wrong before work starts.
    """

    BUILDER_CONFIG_CLASS = WildFeedbackConfig
    BUILDER_CONFIGS = [WildFeedbackConfig(name=name, version=datasets.Version("1.0.0")) for name in _FOLDERS]
    DEFAULT_CONFIG_NAME = "default"

    def __init__(
        self, source: str, labeler: str = "classifier", options: dict[str, Any] | None = None, **arguments: Any
    ) -> None:
        arguments.setdefault("config_name", self.DEFAULT_CONFIG_NAME)
        options = options or {}
        fingerprint = _fingerprint(source, labeler, options)
        super().__init__(source=source, labeler=labeler, options=options, fingerprint=fingerprint, **arguments)

    @property
    def folder(self) -> Path:
        """The dataset folder this builder makes; both configurations share it."""
        return Path(self._cache_dir_root) / "wildreward" / self.config.fingerprint

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


def _fingerprint(source: str, labeler: str, options: dict[str, Any]) -> str:
    """Changes when a row might."""
    build = prepare(BuildSettings(source=source, output=os.devnull, labeler=labeler, **options))  # writes nothing
    return hashlib.sha256(json.dumps(build.compared, sort_keys=True).encode()).hexdigest()[:16]
