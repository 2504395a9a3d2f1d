"""`train-reward` from a finished reward model: it goes on as it is, with new data."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from tests.tiny import chat, reward_model, tokenizer_for
from tests.training.reward_tiny import losses, toy_dataset, trainer
from wildreward.commands import parse
from wildreward.common.errors import UserError
from wildreward.modeling_wildreward.template import is_reward_template
from wildreward.scoring import RewardScorer
from wildreward.training import OrdinalRewardTrainer
from wildreward.training.model_setup import build_model
from wildreward.training.reward_arguments import TrainRewardArguments
from wildreward.training.reward_command import CONFIGS, main

CHATS = [chat("the cat", "sat on a mat"), chat("and user", "wrong", "an answer", "right again please")]
TEMPLATE = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A reward model with everything other than a fresh one has it, and new data."""
    folder = tmp_path_factory.mktemp("source")
    model = reward_model("llama", head="independent", pooling="mean")
    model.config.temperatures, model.config.base_model = [0.5, 2.0, 3.0], "someone/backbone"
    RewardScorer(model, tokenizer_for("llama")).save_pretrained(folder / "rm")
    toy_dataset(64, seed=5).to_parquet(folder / "rows.parquet")
    return folder


def train(source, output, *more, base="rm"):
    flags = (
        f"--dataset {source}/rows.parquet --base-model {source / base} --output-dir {output} --validation-share 0.25"
    )
    flags += " --max-steps 1 --warmup-steps 0 --disable-tqdm True --use-cpu True --bf16 False --report-to none"
    main(*parse("train-reward", CONFIGS, [*flags.split(), *more]))
    return json.loads((output / "training_summary.json").read_text())


def test_before_the_first_step_it_is_the_source(source):
    model, tokenizer, fresh = build_model(TrainRewardArguments(dataset="", base_model=f"{source}/rm"), None, 0)
    assert not fresh and is_reward_template(tokenizer)
    before = load_file(source / "rm" / "model.safetensors")
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert RewardScorer(model, tokenizer).score(CHATS) == RewardScorer.from_pretrained(source / "rm").score(CHATS)


def test_a_continuation_that_changes_nothing_scores_like_its_source(source, tmp_path):
    train(source, tmp_path / "out", "--learning-rate", "1e-12", "--calibrate", "False")
    expected = RewardScorer.from_pretrained(source / "rm")
    found = RewardScorer.from_pretrained(tmp_path / "out")
    assert found.score(CHATS) == pytest.approx(expected.score(CHATS), abs=1e-6)
    for name in ("head", "num_levels", "pooling", "max_length", "temperatures", "base_model"):
        assert getattr(found.model.config, name) == getattr(expected.model.config, name), name
    assert found.tokenizer.chat_template == expected.tokenizer.chat_template


def test_a_continuation_learns_from_where_the_source_was_and_is_calibrated_anew(source, tmp_path):
    made = OrdinalRewardTrainer(f"{source}/rm", trainer(tmp_path).args, toy_dataset(64, seed=5))
    made.train()
    first = trainer(tmp_path, rows=toy_dataset(64, seed=5), model=RewardScorer.from_pretrained(source / "rm").model)
    first.train()
    assert losses(made) == pytest.approx(losses(first), abs=1e-5)
    summary = train(source, tmp_path / "out", "--learning-rate", "1e-2", "--max-steps", "4")
    assert summary["temperatures"] != [0.5, 2.0, 3.0] and summary["base_model"] == "rm"
    before, after = (load_file(folder / "model.safetensors") for folder in (source / "rm", tmp_path / "out"))
    assert not torch.equal(before["score.weight"], after["score.weight"])


@pytest.mark.parametrize(
    ("more", "others"),
    [
        (("--head", "corn"), r"head corn \(its own: independent\)"),
        (("--num-levels", "5", "--pooling", "last"), r"num_levels 5 \(its own: 4\), pooling last \(its own: mean\)"),
    ],
)
def test_another_shape_is_refused_in_one_line(source, tmp_path, more, others):
    with pytest.raises(
        UserError, match=rf"rm is a finished reward model and goes on as it is, not with {others}; leave"
    ):
        train(source, tmp_path / "out", *more)
    assert not (tmp_path / "out" / "training_summary.json").exists()


def test_the_same_shape_given_again_and_another_length_are_fine(source):
    same = {"head": "independent", "num_levels": 4, "pooling": "mean"}
    arguments = TrainRewardArguments(dataset="", base_model=f"{source}/rm", **same)
    for asked, found in ((None, 128), (64, 64), (512, 512), (4096, 1024)):  # the backbone has 1,024 positions
        assert build_model(arguments, asked, 0)[0].config.max_length == found


def test_a_template_of_its_own_stays(source, tmp_path):
    tokenizer = tokenizer_for("llama")
    tokenizer.chat_template = TEMPLATE
    RewardScorer(reward_model("llama"), tokenizer).save_pretrained(tmp_path / "own")
    train(source, tmp_path / "out", "--learning-rate", "1e-12", "--calibrate", "False", base=tmp_path / "own")
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template == TEMPLATE
    expected = RewardScorer.from_pretrained(tmp_path / "own").score(CHATS)
    assert RewardScorer.from_pretrained(tmp_path / "out").score(CHATS) == pytest.approx(expected, abs=1e-6)
