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
from wildreward.training.reward_batching import RewardCollator
from wildreward.training.reward_batching import StepDataset, TokenBudget, TokenBudgetSampler

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
from wildreward.training.reward_config import OrdinalRewardConfig
from wildreward.training.reward_data import load_rows
from wildreward.training.reward_stream import StreamedSteps
from wildreward.training.reward_batching import TokenBudget

tokenizer = install_template(AutoTokenizer.from_pretrained("TOKENIZER"))
args = OrdinalRewardConfig(f"{work}/out", shuffle_buffer=200, max_length=512, max_steps=1)
rows = load_rows(path, "train", streaming=True)
before = anonymous()
seen = 0
for step in StreamedSteps(rows, tokenizer, 512, 4, args, TokenBudget(4096)).one_pass(0):
    seen += len(step)
print(seen, anonymous() - before)
"""
)


def growth(code, rows, work) -> tuple[int, int]:
    """(rows seen, MiB that an epoch over a file of these rows adds), in a process of its own."""
    path = work / "rows.parquet"
    Dataset.from_generator(rows, cache_dir=str(work / "cache")).to_parquet(path, batch_size=200)
    command = [sys.executable, "-c", code, str(path), str(work)]
    seen, mebibytes = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-2:]
    return int(seen), int(mebibytes)


def assert_flat(code, row, counts, folder):
    """An epoch over the larger number of rows adds no more memory than one over the smaller."""
    added = []
    for count in counts:
        work = folder / str(count)
        work.mkdir()
        seen, mebibytes = growth(code.replace("TOKENIZER", str(folder)), lambda n=count: map(row, range(n)), work)
        assert seen == count
        added.append(mebibytes)
    print("MiB that an epoch adds:", added)
    assert added[1] - added[0] < 25, added


@pytest.mark.slow
def test_stored_rows_stay_on_disk(tmp_path):
    def row(number):
        return {"input_ids": [number % 400] * 250, "length": 250, "label": 1 + number % 4, "id": str(number)}

    assert_flat(STORED, row, (2_000, 40_000), tmp_path)  # 40,000 rows: 40 MB of int32 ids, 300 MB as Python lists


@pytest.mark.slow
def test_a_stream_is_never_held(tmp_path):
    decoder_tokenizer().save_pretrained(tmp_path)

    def row(number):
        messages = chat(f"the cat {number}", "sat on a mat " * 20, "wrong again please " * 400, "the answer")
        return {"messages": messages, "label": 1 + number % 4, "id": str(number)}

    assert_flat(STREAMED, row, (500, 4_000), tmp_path)  # 4,000 rows: 32 MB of text
