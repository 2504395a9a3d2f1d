"""Names that may be a folder here or an id on the Hub: a mistyped path is told as one, and at once."""

import pytest

from wildreward.common.errors import UserError
from wildreward.common.lookup import LONGEST_REASON, hub_commit, load_error_message

ASKED_ONCE = "(Cannot resolve revision|Repo id must|Invalid repo)"  # by `hub_commit`; downloads would try six times


@pytest.fixture
def no_hub(monkeypatch):
    """A Hub that refuses every connection."""
    from huggingface_hub import constants, hf_api

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(hf_api.api, "endpoint", "http://127.0.0.1:9")  # read when the module was


def test_a_reason_says_first_that_nothing_here_is_called_so(tmp_path):
    error = OSError("two\n lines")
    assert load_error_message("runs/nope", error) == (
        "there is no file or folder 'runs/nope' here, and as an id on the Hub: two lines"
    )
    assert load_error_message(str(tmp_path), error) == "two lines"
    assert load_error_message("owner/name", ImportError("flash_attn is not installed")) == "flash_attn is not installed"
    assert load_error_message(str(tmp_path), ValueError()) == "ValueError"
    assert len(load_error_message(str(tmp_path), ValueError("x" * 9999))) == LONGEST_REASON + 1


def test_a_folder_has_no_commit(tmp_path):
    assert hub_commit(str(tmp_path)) is None


@pytest.mark.parametrize("name", ["runs/nope", "./runs/nope", "a/b/c"])
def test_a_mistyped_path_of_a_model_is_told_at_once(name, no_hub, tmp_path):
    from wildreward.scoring import load_scorer
    from wildreward.scoring.scorer import RewardScorer

    for load in (RewardScorer.from_pretrained, load_scorer):
        with pytest.raises(
            UserError, match=f"there is no file or folder '{name}' here, and as an id on the Hub: {ASKED_ONCE}"
        ):
            load(name)
    with pytest.raises(UserError, match=f"there is no file or folder '{name}' here"):
        load_scorer("http://127.0.0.1:9/", served_model=name)


def test_a_mistyped_backbone_is_told_at_once(no_hub, tmp_path):
    from wildreward.training.model_setup import build_model
    from wildreward.training.reward_arguments import TrainRewardArguments

    with pytest.raises(UserError, match=f"no file or folder 'runs/nope' here, and as an id on the Hub: {ASKED_ONCE}"):
        build_model(TrainRewardArguments(dataset="x", base_model="runs/nope"), None, 0)
