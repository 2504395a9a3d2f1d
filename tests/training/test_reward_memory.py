"""Memory of reward training does not grow with the dataset, stored or streamed."""

import subprocess
import sys

import pytest
from datasets import Dataset

from tests.tiny import chat, decoder_tokenizer

ANONYMOUS = """
import re, sys

def anonymous():
    "Private memory in MiB; pages of mapped files do not count."
    return int(re.search(r"RssAnon:\\s+(\\d+)", open("/proc/self/status").read())[1]) // 1024

path, work = sys.argv[1:]
"""

STORED = (
    ANONYMOUS
    + """
from datasets import load_dataset
from torch.utils.data import DataLoader
from wildreward.training.reward_collators import RewardCollator
from wildreward.training.token_budget_sampler import StepDataset, TokenBudget, TokenBudgetSampler

rows = load_dataset("parquet", data_files=path, split="train", cache_dir=work)
before = anonymous()
lengths = rows.with_format("numpy")["length"][:]
steps = DataLoader(
    StepDataset(rows),
    batch_sampler=TokenBudgetSampler(lengths, 32, TokenBudget(4096)),
    collate_fn=RewardCollator(0),
)
seen = sum(len(batch["labels"]) for batch in steps)
print(seen, anonymous() - before)
"""
)

STREAMED = (
    ANONYMOUS
    + """
from transformers import AutoTokenizer
from wildreward.modeling_wildreward.template import install_template
from wildreward.training.ordinal_reward_config import OrdinalRewardConfig
from wildreward.training.reward_data import load_rows
from wildreward.training.reward_stream import StreamedSteps
from wildreward.training.token_budget_sampler import TokenBudget

tokenizer = install_template(AutoTokenizer.from_pretrained(f"{work}/tokenizer"))
args = OrdinalRewardConfig(f"{work}/out", shuffle_buffer=200, max_length=512, max_steps=1)
rows = load_rows(path, "train", streaming=True)
before = anonymous()
seen = 0
for step in StreamedSteps(rows, tokenizer, 512, 4, args, TokenBudget(4096)):
    seen += sum(map(len, step))
print(seen, anonymous() - before)
"""
)


def growth(code, path, work) -> tuple[int, int]:
    """(rows seen, MiB that an epoch over the file adds), in a process of its own."""
    command = [sys.executable, "-c", code, str(path), str(work)]
    seen, mebibytes = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-2:]
    return int(seen), int(mebibytes)


def write(path, rows, work):
    Dataset.from_generator(rows, cache_dir=str(work / "cache")).to_parquet(path, batch_size=200)


@pytest.mark.slow
def test_stored_rows_stay_on_disk(tmp_path):
    added = []
    for count in (2_000, 40_000):  # 40,000 rows: 40 MB of int32 ids, 300 MB as Python lists

        def rows(count=count):
            for number in range(count):
                yield {"input_ids": [number % 400] * 250, "length": 250, "label": 1 + number % 4, "id": str(number)}

        write(tmp_path / f"{count}.parquet", rows, tmp_path)
        seen, mebibytes = growth(STORED, tmp_path / f"{count}.parquet", tmp_path)
        assert seen == count
        added.append(mebibytes)
    print("MiB that an epoch adds:", added)
    assert added[1] - added[0] < 25, added


@pytest.mark.slow
def test_a_stream_is_never_held(tmp_path):
    decoder_tokenizer().save_pretrained(tmp_path / "tokenizer")
    added = []
    for count in (500, 4_000):  # 4,000 rows: 32 MB of text

        def rows(count=count):
            for number in range(count):
                messages = chat(f"the cat {number}", "sat on a mat " * 20, "wrong again please " * 400, "the answer")
                yield {"messages": messages, "label": 1 + number % 4, "id": str(number)}

        write(tmp_path / f"{count}.parquet", rows, tmp_path)
        seen, mebibytes = growth(STREAMED, tmp_path / f"{count}.parquet", tmp_path)
        assert seen == count
        added.append(mebibytes)
    print("MiB that an epoch adds:", added)
    assert added[1] - added[0] < 25, added
