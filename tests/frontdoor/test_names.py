"""What a published file calls a model or a dataset."""

import pytest

from wildreward.common.names import public_name


@pytest.mark.parametrize(
    ("name", "public"),
    [
        ("Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
        ("gpt-oss-120b", "gpt-oss-120b"),
        ("/nowhere/at/all/model/", "model"),
        ("/hub/models--org--name/snapshots/0a1b", "org/name"),
        ("hub/datasets--org--name/snapshots/0a1b/file.json", "org/name"),
        ("/hub/models--gpt2/snapshots/0a1b/", "gpt2"),
        ("~/models/mine", "mine"),
        ("https://user:word@host:8000/v1", "host:8000"),
    ],
)
def test_names_of_what_is_not_here(name, public):
    assert public_name(name) == public


def test_a_folder_is_called_by_its_last_part(tmp_path, monkeypatch):
    (tmp_path / "models" / "mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "models")
    assert {public_name(name) for name in (str(tmp_path / "models" / "mine"), "mine", "./mine", "../models/mine")} == {
        "mine"
    }
