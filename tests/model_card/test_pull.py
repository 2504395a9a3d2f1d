"""What was pushed is pulled again by `transformers` and `datasets` in a fresh process that only knows the Hub's address."""

import ast
import json
import re

import pytest
import torch
from datasets import Dataset, Features, List, Value
from transformers import BertConfig, BertForSequenceClassification

from tests.dataset_builder.chats import write_chats
from tests.hub_double import HubDouble
from tests.model_card.conftest import python
from tests.tiny import chat, reward_model, tokenizer_for
from wildreward import RewardScorer
from wildreward.common.cards import Card, section
from wildreward.common.errors import UserError
from wildreward.dataset_builder.build import build_dataset
from wildreward.model_card import push

# A process in which this package does not exist, as on the machine of someone who found the model on the Hub.
WITHOUT_WILDREWARD = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "wildreward":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
"""
LOAD = """
import json, torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
messages = json.loads(MESSAGES)
for revision in ("main", PINNED):
    model = AutoModelForSequenceClassification.from_pretrained(
        "user/m", revision=revision, trust_remote_code=True, num_labels=1
    ).eval()
    tokenizer = AutoTokenizer.from_pretrained("user/m", revision=revision, trust_remote_code=True)
    inputs = tokenizer.apply_chat_template(messages, return_dict=True, return_tensors="pt")
    print("SCORE", model(**inputs).logits[0, 0].item())
"""
MESSAGES = chat("the cat sat on the mat", "an answer that was right")


def test_reward_model_pulled_where_wildreward_is_not_installed(hub, api, reward_folder, tmp_path):
    """By main, by a pinned commit, and by the card's own example: the scores of the folder that was pushed."""
    old = RewardScorer.from_pretrained(reward_folder).score([MESSAGES])[0]
    push(reward_folder, "user/m", private=True, api=api)
    pinned = api.model_info("user/m").sha
    other = reward_model("bert", seed=1)
    other.save_pretrained(reward_folder)
    new = RewardScorer.from_pretrained(reward_folder).score([MESSAGES])[0]
    push(reward_folder, "user/m", api=api)
    assert abs(new - old) > 1e-3

    usage = Card.parse(hub.repo("user/m").files()["README.md"].decode()).section
    example, with_wildreward, with_trl = re.findall(r"```python\n(.*?)```", usage, re.DOTALL)
    compile(with_wildreward + with_trl, "card", "exec")
    code = f"{WITHOUT_WILDREWARD}PINNED = {pinned!r}\nMESSAGES = {json.dumps(MESSAGES)!r}\n{LOAD}\n{example}"
    result = python(code, hub, tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    first, second, score, probs = result.stdout.splitlines()
    assert float(first.split()[1]) == pytest.approx(new, abs=1e-4)
    assert float(second.split()[1]) == pytest.approx(old, abs=1e-4)
    assert 1 <= float(score) <= 4 and sum(ast.literal_eval(probs)) == pytest.approx(1, abs=1e-4)
    assert not hub.leaked_tokens, "the token went to the storage host"


def test_plain_classifier_through_multipart_uploads_and_paged_listings(api, tmp_path):
    with HubDouble(multipart_above=20_000, page_size=2) as hub:
        client = type(api)(endpoint=hub.url, token=hub.token)
        shape = {"vocab_size": 400, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
        model = BertForSequenceClassification(BertConfig(**shape, num_attention_heads=2, num_labels=3))
        folder = tmp_path / "plain"
        model.save_pretrained(folder)
        tokenizer_for("bert").save_pretrained(folder)
        push(folder, "user/plain", license="mit", api=client)
        assert hub.count("PUT", r"^/storage/\w+/\d+$") > 2
        pulled = BertForSequenceClassification.from_pretrained(client.snapshot_download("user/plain"))
        for name, weight in model.state_dict().items():
            assert torch.equal(weight, pulled.state_dict()[name])
        card = Card.parse(hub.repo("user/plain").files()["README.md"].decode())
        assert card.metadata["license"] == "mit" and "sigmoid()" in card.section


# -- datasets --------------------------------------------------------------------------------------------------------

MESSAGE = {"role": Value("string"), "content": Value("string")}
INSTANCE = Features(
    {"id": Value("string"), "history": List(MESSAGE), "messages": List(MESSAGE), "label": Value("int64")}
)
FEATURES_YAML = """
  features:
  - name: id
    dtype: string
  - name: history
    list:
    - name: role
      dtype: string
    - name: content
      dtype: string
  - name: messages
    list:
    - name: role
      dtype: string
    - name: content
      dtype: string
  - name: label
    dtype: int64
"""
CARD = f"""---
license: odc-by
configs:
- config_name: default
  default: true
  data_files:
  - split: train
    path: data/train-*.parquet
  - split: test
    path: data/test-*.parquet
- config_name: unpaired_preference
  data_files:
  - split: train
    path: unpaired_preference/train-*.parquet
dataset_info:
- config_name: default{FEATURES_YAML}- config_name: unpaired_preference
  features:
  - name: prompt
    dtype: string
  - name: completion
    dtype: string
  - name: label
    dtype: bool
---

{section("# Chats")}
"""


@pytest.fixture
def dataset_folder(tmp_path):
    folder = tmp_path / "dataset"
    for name in ("data", "unpaired_preference", "work"):
        (folder / name).mkdir(parents=True)
    rows = [{"id": f"c{i}_turn0", "history": [], "messages": chat("hello", "hi"), "label": 1 + i % 4} for i in range(6)]
    for shard in range(2):
        Dataset.from_list(rows[shard::2], INSTANCE).to_parquet(folder / "data" / f"train-0000{shard}-of-00002.parquet")
    Dataset.from_list(rows[:2], INSTANCE).to_parquet(folder / "data" / "test-00000-of-00001.parquet")
    pairs = [{"prompt": "hello", "completion": "hi", "label": True}] * 3
    Dataset.from_list(pairs).to_parquet(folder / "unpaired_preference" / "train-00000-of-00001.parquet")
    (folder / "README.md").write_text(CARD)
    (folder / "build_report.json").write_text("{}")
    (folder / "settings.json").write_text("{}")
    (folder / "work" / "levels.parquet").write_bytes(b"ledger")
    return folder


LOAD_DATASET = """
from datasets import load_dataset
for revision in (PINNED, "main"):
    data = load_dataset("user/chats", revision=revision)
    pairs = load_dataset("user/chats", "unpaired_preference", revision=revision)
    print(data["train"].num_rows, data["test"].num_rows, pairs["train"].num_rows, data["train"][0]["messages"][1]["role"])
"""


def build(folder, chats):
    """A dataset folder as `wildreward build-dataset` makes it."""
    source, labels = write_chats(folder.parent / f"{folder.name}-source", chats)
    options = {"labels": str(labels)}
    return build_dataset(
        str(source), folder, labeler="file", labeler_options=options, test_fraction=0.3, mining_window=0
    )


def test_built_dataset_pushed_twice_and_loaded_in_both_configs(hub, api, tmp_path):
    counts = []
    for number, chats in enumerate((60, 30)):  # the second time from a fresh folder
        folder = tmp_path / f"chats{number}"
        (tmp_path / f"{folder.name}-source").mkdir()
        splits = build(folder, chats)["splits"]
        counts.append([sum(splits["train"].values()), sum(splits["test"].values()), sum(splits["train"].values())])
        done = push(folder, "user/chats", private=True, api=api)
        assert done.kind == "dataset" and done.url == f"{hub.url}/datasets/user/chats"
        repo = hub.repo("user/chats", "datasets")
        assert {path.split("/")[0] for path in repo.files()} == {
            ".gitattributes", "README.md", "build_report.json", "data", "figures", "unpaired_preference"
        }  # fmt: skip
        readme = repo.files()["README.md"].decode()
        assert readme.count('load_dataset("user/chats"') == 2
        published = readme + repo.files()["build_report.json"].decode()
        assert str(tmp_path) not in published and "chats.jsonl" in published
        if number == 0:
            pinned = api.dataset_info("user/chats").sha
            text = f"{readme}\nCollected with consent.\n".encode()
            api.upload_file(path_or_fileobj=text, path_in_repo="README.md", repo_id="user/chats", repo_type="dataset")
    assert "Collected with consent." in readme and f"{counts[1][0]} |" in readme and f"{counts[0][0]} |" not in readme

    result = python(f"PINNED = {pinned!r}\n{LOAD_DATASET}", hub, tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    assert [line.split() for line in result.stdout.splitlines()] == [[*map(str, row), "assistant"] for row in counts]


def test_a_dataset_pushed_to_a_second_repository_is_loaded_from_there(hub, api, tmp_path):
    folder = tmp_path / "chats"
    (tmp_path / "chats-source").mkdir()
    build(folder, 60)
    push(folder, "user/trial", license="odc-by", api=api)
    (folder / "README.md").write_text((folder / "README.md").read_text() + "\nCollected with consent.\n")
    for name in ("user/chats", "user/trial", "user/chats"):
        push(folder, name, api=api)
        readme = hub.repo(name, "datasets").files()["README.md"].decode()
        assert readme.count(f'load_dataset("{name}"') == 2 and readme.count("load_dataset(") == 2
        assert readme.count("Collected with consent.") == 1 and "license: odc-by" in readme
    assert (folder / "README.md").read_text().count('load_dataset("PATH_OR_REPO"') == 2
    assert push(folder, "user/trial", api=api).changed is False


def test_fewer_shards_on_the_second_push_replace_the_old_ones(hub, api, dataset_folder):
    push(dataset_folder, "user/chats", api=api)
    (dataset_folder / "data" / "train-00001-of-00002.parquet").unlink()
    (dataset_folder / "README.md").write_text(CARD.replace("# Chats", "# Chats, again"))
    push(dataset_folder, "user/chats", api=api)
    files = hub.repo("user/chats", "datasets").files()
    assert [path for path in files if "data/train" in path] == ["data/train-00000-of-00002.parquet"]
    assert "# Chats, again" in files["README.md"].decode() and "# Chats\n" not in files["README.md"].decode()


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("    dtype: int64", "    dtype: integer64", "`datasets` cannot read the `dataset_info` of default"),
        (
            "  features:\n  - name: id",
            "  features: |\n  - name: id",
            "cannot read the `dataset_info`|YAML does not parse",
        ),
        ("path: data/test-*.parquet", "path: data/validation-*.parquet", "names the data files data/validation-"),
        ("  - name: completion\n    dtype: string\n", "", "differ in the columns completion"),
        ("split: train", "split: train-set", "`datasets` cannot read the card's `configs`"),
        ("configs:", "config:", "lacks `configs`"),
    ],
)
def test_dataset_card_that_load_dataset_could_not_read_is_refused_before_upload(
    hub, api, dataset_folder, old, new, match
):
    assert old in CARD
    (dataset_folder / "README.md").write_text(CARD.replace(old, new))
    with pytest.raises(UserError, match=match):
        push(dataset_folder, "user/chats", api=api)
    assert not hub.repos


def test_dataset_without_a_card_is_refused(hub, api, dataset_folder):
    (dataset_folder / "README.md").unlink()
    with pytest.raises(UserError, match=r"has no README.md; `wildreward build-dataset` writes one"):
        push(dataset_folder, "user/chats", api=api)
    assert not hub.repos
