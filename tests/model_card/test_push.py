"""Pushing with the real client to the Hub double: what arrives, what never does, and interruption at every stage."""

import json
import os
import signal

import pytest
import torch
import yaml
from huggingface_hub import HfApi, parse_eval_result_entries
from safetensors.torch import load_file, save_file

from tests.hub_double import Fault, wait_for
from tests.model_card.conftest import command, write_results
from wildreward.common.cards import Card
from wildreward.common.errors import UserError
from wildreward.common.weights import weights_digest
from wildreward.model_card import push, write_model_card

PUT = r"^/storage/"
WRITES = ("POST", "PUT", "DELETE")


def main_files(hub, name="user/m", kind="models"):
    return hub.repo(name, kind).files()


def statuses(hub):
    """Of all pull requests, in their order."""
    return [pull["status"] for pull in hub.repo("user/m").pulls.values()]


def uploads(hub):
    return hub.count("PUT", PUT)


def test_model_arrives_complete_and_nothing_else_does(hub, api, reward_folder):
    (reward_folder / ".env").write_text("HF_TOKEN=x")
    done = push(reward_folder, "user/m", private=True, api=api)
    files = main_files(hub)
    assert set(files) - {".gitattributes"} == set(done.files) | {".eval_results/wildreward.yaml"}
    assert {"model.safetensors", "config.json", "README.md", "results.json", "figures/score_by_label.png"} <= set(files)
    assert "modeling_wildreward.py" in files and "tokenizer.json" in files
    for never in ("work", "checkpoint-10", "settings.json", "training_args.bin", ".lock", ".env"):
        assert not any(path.startswith(never) for path in files)
    assert files["model.safetensors"] == (reward_folder / "model.safetensors").read_bytes()
    assert files["README.md"] == (reward_folder / "README.md").read_bytes()
    assert hub.repo("user/m").private and not hub.leaked_tokens
    assert ".env" in done.left_out and done.url == f"{hub.url}/user/m"


def test_card_on_the_hub_says_what_the_files_say(hub, api, reward_folder):
    push(reward_folder, "user/m", api=api)
    info = api.model_info("user/m")
    assert info.card_data.base_model == "sentence-transformers/all-MiniLM-L6-v2"
    assert info.card_data.datasets == ["user/chats"] and info.card_data.license == "apache-2.0"
    assert info.pipeline_tag == "text-classification" and info.library_name == "transformers"
    assert info.card_data.language == ["en"]
    text = main_files(hub)["README.md"].decode()
    assert "0.710 [0.660, 0.760]" in text and "learning_rate | 2e-05" in text and "1,234" in text
    assert 'model_id, revision = "user/m", "main"' in text and "2602.08829" in text
    assert "/home/me" not in text and "![score by label](figures/score_by_label.png)" in text
    entries = parse_eval_result_entries(yaml.safe_load(main_files(hub)[".eval_results/wildreward.yaml"]))
    assert [(e.dataset_id, e.task_id, e.value) for e in entries] == [("user/chats", "roc_auc", 0.71)]


def test_second_push_of_the_same_folder_sends_nothing(hub, api, reward_folder):
    push(reward_folder, "user/m", api=api)
    before, commits = uploads(hub), len(hub.repo("user/m").commits)
    done = push(reward_folder, "user/m", api=api)
    assert not done.changed and uploads(hub) == before and len(hub.repo("user/m").commits) == commits
    assert len(hub.repo("user/m").pulls) == 1


def test_new_results_change_card_and_results_only(hub, api, reward_folder):
    push(reward_folder, "user/m", api=api)
    sent, before = uploads(hub), main_files(hub)
    write_results(reward_folder, 0.82)
    assert push(reward_folder, "user/m", api=api).changed
    changed = {name for name, content in main_files(hub).items() if content != before[name]}
    assert changed == {".eval_results/wildreward.yaml", "README.md", "results.json"} and uploads(hub) == sent
    assert "0.820" in main_files(hub)["README.md"].decode() and "0.710" not in main_files(hub)["README.md"].decode()


def test_results_of_other_weights_are_neither_on_the_card_nor_pushed(hub, api, reward_folder, caplog):
    results = json.loads((reward_folder / "results.json").read_text())
    results["model"]["weights"] = weights_digest(reward_folder)
    (reward_folder / "results.json").write_text(json.dumps(results))
    config = reward_folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"transformers_version": "5.99"}))
    push(reward_folder, "user/m", api=api)
    assert "0.710" in main_files(hub)["README.md"].decode() and "results.json" in main_files(hub)
    assert "other weights" not in caplog.text

    weights = load_file(reward_folder / "model.safetensors")
    save_file({name: tensor + 0.01 for name, tensor in weights.items()}, reward_folder / "model.safetensors")
    done = push(reward_folder, "user/m", api=api)
    card, files = main_files(hub)["README.md"].decode(), main_files(hub)
    assert "These weights were not evaluated" in card and "0.710" not in card and "![score by label]" not in card
    assert "results.json" not in files and ".eval_results/wildreward.yaml" not in files
    assert "results.json" in done.left_out and (reward_folder / "results.json").exists()
    assert "results.json is of other weights than those in the folder: it is not pushed" in caplog.text


def test_shard_that_is_gone_here_goes_on_the_hub_and_other_files_stay(hub, api, reward_folder):
    (reward_folder / "figures" / "old.png").write_bytes(b"\x89PNG\0old")
    push(reward_folder, "user/m", api=api)
    api.upload_file(path_or_fileobj=b"mine", path_in_repo="notes.md", repo_id="user/m")
    (reward_folder / "figures" / "old.png").unlink()
    push(reward_folder, "user/m", api=api)
    assert "figures/old.png" not in main_files(hub) and main_files(hub)["notes.md"] == b"mine"


def test_a_merged_model_leaves_nothing_of_the_adapter_that_was_there(hub, api, reward_folder, tmp_path):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    save_file({"lora_A": torch.ones(2, 2)}, adapter / "adapter_model.safetensors")
    base = "sentence-transformers/all-MiniLM-L6-v2"
    config = {"peft_type": "LORA", "task_type": "SEQ_CLS", "base_model_name_or_path": base}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    for name in ("dpo_results.json", "added_tokens.json"):
        (adapter / name).write_text("{}")
    (adapter / "chat_template.jinja").write_text("{{ messages }}")
    (adapter / "additional_chat_templates").mkdir()
    (adapter / "additional_chat_templates" / "tool.jinja").write_text("{{ messages }}")
    push(adapter, "user/m", api=api)
    assert {"adapter_config.json", "additional_chat_templates/tool.jinja"} <= set(main_files(hub))
    api.upload_file(path_or_fileobj=b"mine", path_in_repo="notes.md", repo_id="user/m")

    done = push(reward_folder, "user/m", api=api)
    brought = {*done.files, ".eval_results/wildreward.yaml"}
    assert set(main_files(hub)) - {".gitattributes", "notes.md"} == brought and "notes.md" in main_files(hub)


def test_a_tokenizer_on_the_hub_stays_where_no_other_comes(hub, api, reward_folder):
    push(reward_folder, "user/m", api=api)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (reward_folder / name).unlink()
    push(reward_folder, "user/m", api=api)
    assert {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"} <= set(main_files(hub))


def test_edits_made_only_on_the_hub_survive(hub, api, reward_folder):
    push(reward_folder, "user/m", api=api)
    text = main_files(hub)["README.md"].decode()
    edited = text.replace("license: apache-2.0", "license: mit").replace(
        "<!-- wildreward -->", "## Who made it\n\nWe did.\n\n<!-- wildreward -->"
    )
    api.upload_file(path_or_fileobj=edited.encode(), path_in_repo="README.md", repo_id="user/m")
    write_results(reward_folder, 0.82)
    (reward_folder / "README.md").write_text(
        (reward_folder / "README.md").read_text() + "\n## Thanks\n\nTo all users.\n"
    )
    push(reward_folder, "user/m", api=api)
    final = main_files(hub)["README.md"].decode()
    assert "We did." in final and "To all users." in final and "0.820" in final
    assert Card.parse(final).metadata["license"] == "mit"
    assert (reward_folder / "README.md").read_text() == final


def test_retrained_model_from_a_fresh_folder_keeps_the_page(hub, api, reward_folder, reward_folder_made_once, tmp_path):
    push(reward_folder, "user/m", api=api)
    text = main_files(hub)["README.md"].decode() + "\nOur note.\n"
    api.upload_file(path_or_fileobj=text.encode(), path_in_repo="README.md", repo_id="user/m")
    push(reward_folder, "user/m", api=api)
    write_model_card(reward_folder_made_once, log=False)
    push(reward_folder_made_once, "user/m", api=api)
    assert "Our note." in main_files(hub)["README.md"].decode()
    (reward_folder_made_once / "README.md").unlink()


# -- refused before anything is sent ---------------------------------------------------------------------------------


def refused(hub, api, folder, match):
    with pytest.raises(UserError, match=match):
        push(folder, "user/m", api=api)
    assert not [path for method, path in hub.requests if method in WRITES and "whoami" not in path]


def test_broken_section_is_refused_before_upload(hub, api, reward_folder):
    write_model_card(reward_folder)
    readme = reward_folder / "README.md"
    readme.write_text(readme.read_text().replace("<!-- /wildreward -->", ""))
    refused(hub, api, reward_folder, "README.md is not ready to be pushed: the card's generated section is broken")


def test_broken_yaml_image_and_field_are_refused_before_upload(hub, api, reward_folder):
    write_model_card(reward_folder)
    good = (reward_folder / "README.md").read_text()
    for text, match in (
        (good.replace("tags:", "tags: ["), "YAML does not parse at line"),
        (good + "\n![x](images/gone.png)\n", "shows images/gone.png, which is not among the files"),
        (good.replace("license: apache-2.0", "license: 1.0"), "`license` is 1.0; expected text"),
    ):
        (reward_folder / "README.md").write_text(text)
        refused(hub, api, reward_folder, match)


def test_pickled_weights_and_tokens_in_files_are_refused(hub, api, reward_folder):
    (reward_folder / "pytorch_model.bin").write_bytes(b"\x80\x04")
    refused(hub, api, reward_folder, "pytorch_model.bin is a pickle")
    (reward_folder / "pytorch_model.bin").unlink()
    summary = json.loads((reward_folder / "training_summary.json").read_text())
    (reward_folder / "training_summary.json").write_text(json.dumps({**summary, "note": "hf_" + "a" * 34}))
    refused(hub, api, reward_folder, "training_summary.json holds what looks like an access token")


def test_results_of_another_shape_and_a_folder_of_neither_kind_are_refused(hub, api, reward_folder, tmp_path):
    (reward_folder / "results.json").write_text('{"datasets": {"x": {"roc_auc": 0.5}}}')
    refused(hub, api, reward_folder, "results.json cannot be shown on a card")
    (tmp_path / "empty").mkdir()
    refused(hub, api, tmp_path / "empty", "neither a model nor a dataset")
    refused(hub, api, tmp_path / "nowhere", "is not a folder")


# -- the Hub says no -------------------------------------------------------------------------------------------------


def test_no_token_wrong_token_read_token_and_foreign_namespace(hub, api, reward_folder, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.hf_api.get_token", lambda: None)
    for client, repo_id, match in (
        (HfApi(endpoint=hub.url), "user/m", "no access token .*set HF_TOKEN"),
        (HfApi(endpoint=hub.url, token="hf_wrong"), "user/m", "does not accept the access token"),
        (HfApi(endpoint=hub.url, token=hub.read_token), "user/m", "may not write to user/m"),
        (api, "other/m", "may not write to other/m"),
        (api, "user/m/x", "is not a repository id"),
    ):
        with pytest.raises(UserError, match=match) as caught:
            push(reward_folder, repo_id, api=client)
        assert "hf_" not in str(caught.value)
    assert not hub.repos


def test_unreachable_hub(hub, reward_folder):
    hub.__exit__()
    with pytest.raises(UserError, match="lost the connection"):
        push(reward_folder, "user/m", api=HfApi(endpoint=hub.url, token=hub.token))
    hub.__enter__()


def test_private_is_not_ignored_where_the_repository_is_public(hub, api, reward_folder):
    api.create_repo("user/m")
    with pytest.raises(UserError, match="is public, but --private"):
        push(reward_folder, "user/m", private=True, api=api)
    assert set(main_files(hub)) == {".gitattributes"}


# -- interruption ----------------------------------------------------------------------------------------------------


def test_connection_dropped_at_the_commit_then_pushed_again(hub, api, reward_folder):
    hub.faults.append(Fault("commit"))
    with pytest.raises(UserError, match=r"lost the connection .* it goes on where it stopped"):
        push(reward_folder, "user/m", api=api)
    assert set(main_files(hub)) == {".gitattributes"}, "main shows nothing of a half-done push"
    sent = uploads(hub)
    assert sent == 2  # weights and figure
    push(reward_folder, "user/m", api=api)
    assert uploads(hub) == sent, "what had arrived was sent again"
    assert statuses(hub) == ["merged"] and "model.safetensors" in main_files(hub)


@pytest.mark.parametrize(("place", "left"), [("commit_done", ["closed", "merged"]), ("merge_done", ["merged"])])
def test_answer_lost_after_the_work_was_done(hub, api, reward_folder, place, left):
    hub.faults.append(Fault(place))
    with pytest.raises(UserError, match="lost the connection"):
        push(reward_folder, "user/m", api=api)
    sent = uploads(hub)
    push(reward_folder, "user/m", api=api)
    assert uploads(hub) == sent and statuses(hub) == left
    assert "model.safetensors" in main_files(hub)


def test_connection_dropped_in_the_middle_of_a_large_file_is_retried(hub, api, reward_folder):
    hub.faults.append(Fault("lfs_put", nth=1))
    push(reward_folder, "user/m", api=api)
    assert main_files(hub)["model.safetensors"] == (reward_folder / "model.safetensors").read_bytes()


def test_large_file_refused_by_the_storage(hub, api, reward_folder):
    hub.faults.append(Fault("lfs_put", action=403, times=9))
    with pytest.raises(UserError, match="may not write"):
        push(reward_folder, "user/m", api=api)
    assert set(main_files(hub)) == {".gitattributes"}


@pytest.mark.parametrize("place", ["lfs_put", "commit", "merge"])
def test_sigkill_then_pushed_again(hub, api, reward_folder, tmp_path, place):
    hub.faults.append(Fault(place, nth=2 if place == "lfs_put" else 1, action="hang"))
    child = command(reward_folder, "user/m", hub, tmp_path)
    try:
        wait_for(hub.reached.is_set)
        wait_for(lambda: place != "lfs_put" or len(hub.lfs) == 1)
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.communicate()
    assert set(main_files(hub)) == {".gitattributes"}, "main shows nothing of a half-done push"
    sent = uploads(hub)
    push(reward_folder, "user/m", api=api)
    assert statuses(hub) == (["closed", "merged"] if place == "merge" else ["merged"])
    assert uploads(hub) - sent == (1 if place == "lfs_put" else 0), "only what is missing is sent"
    assert main_files(hub)["model.safetensors"] == (reward_folder / "model.safetensors").read_bytes()


def test_local_edits_made_before_an_interruption_are_not_lost(hub, api, reward_folder):
    push(reward_folder, "user/m", api=api)
    (reward_folder / "README.md").write_text((reward_folder / "README.md").read_text() + "\nMy note.\n")
    hub.faults.append(Fault("commit"))
    with pytest.raises(UserError):
        push(reward_folder, "user/m", api=api)
    assert "My note." not in main_files(hub)["README.md"].decode()
    push(reward_folder, "user/m", api=api)
    assert "My note." in main_files(hub)["README.md"].decode()


def test_card_edited_on_the_hub_while_a_push_lay_interrupted(hub, api, reward_folder):
    push(reward_folder, "user/m", api=api)
    write_results(reward_folder, 0.82)
    hub.faults.append(Fault("merge"))
    with pytest.raises(UserError):
        push(reward_folder, "user/m", api=api)
    text = main_files(hub)["README.md"].decode() + "\nWritten meanwhile.\n"
    api.upload_file(path_or_fileobj=text.encode(), path_in_repo="README.md", repo_id="user/m")
    push(reward_folder, "user/m", api=api)
    final = main_files(hub)["README.md"].decode()
    assert "Written meanwhile." in final and "0.820" in final
    assert statuses(hub) == ["merged", "closed", "merged"]


def test_two_pushes_of_one_folder_at_once(hub, api, reward_folder, tmp_path):
    hub.faults.append(Fault("commit", action="hang"))
    child = command(reward_folder, "user/m", hub, tmp_path)
    try:
        wait_for(hub.reached.is_set)
        with pytest.raises(UserError, match="another run is writing"):
            push(reward_folder, "user/m", api=api)
    finally:
        child.kill()
        child.communicate()
