"""Archives that are read as the folders they hold, and those that are refused."""

import json
import os
import zipfile

import pytest

from tests.dataset_builder.chats import chat
from wildreward.common.errors import UserError
from wildreward.dataset_builder.preview import preview
from wildreward.dataset_builder.settings import BuildSettings
from wildreward.dataset_builder.sources import zipped as zipped_module
from wildreward.dataset_builder.sources.files import InputErrors
from wildreward.dataset_builder.sources.readers import find_slices, read_slice

ROWS = [{"id": f"c{number}", "messages": chat(number)[0]} for number in range(30)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def zipped(path, files, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def records(path, errors=None):
    errors = errors or InputErrors()
    return [record for piece in find_slices(str(path), errors) for record in read_slice(piece, ["messages"], errors)]


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_members_are_the_files_of_a_folder(tmp_path, compression):
    half = LINES.index(b"\n", len(LINES) // 2) + 1
    files = {"b/more.jsonl": LINES[half:], "a.json": json.dumps(list(map(json.loads, LINES[:half].splitlines())))}
    path = zipped(tmp_path / "in.zip", files, compression)
    assert records(path) == ROWS
    assert os.listdir(tmp_path) == ["in.zip"], "nothing is unpacked"
    assert "in.zip/a.json: layout messages" in preview(BuildSettings(source=str(path)))


@pytest.mark.parametrize("name", ["/tmp/a.json", "../a.json", "x/../../a.json", "./a.json"])
def test_names_that_lead_elsewhere_are_refused(tmp_path, name):
    path = zipped(tmp_path / "in.zip", {"a.jsonl": LINES, name: "[]"})
    with pytest.raises(UserError, match=r"in\.zip cannot be read \(a member has the name '.*a\.json'\); pass --on-bad"):
        records(path)


def test_an_archive_of_many_times_its_size_is_refused(tmp_path, monkeypatch):
    path = zipped(tmp_path / "in.zip", {"a.jsonl": LINES, "b.json": b" " * 4_000_000})
    assert len(records(path, InputErrors(skip=True))) == 30
    monkeypatch.setattr(zipped_module, "SMALL", 1_000_000)
    with pytest.raises(UserError, match=r"in\.zip cannot be read \(it would unpack to 4,0\d\d,\d{3} bytes; unpack it"):
        records(path)


def test_damage_and_encryption_are_errors_or_counted(tmp_path):
    path = zipped(tmp_path / "in.zip", {"a.jsonl": LINES}, zipfile.ZIP_STORED)
    whole = bytearray(path.read_bytes())
    whole[whole.index(b"Please") + 1] ^= 1
    path.write_bytes(whole)
    with pytest.raises(UserError, match=r"in\.zip/a\.jsonl cannot be read \(it is damaged: Bad CRC-32"):
        records(path)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"in\.zip cannot be read \(it is damaged: File is not a zip file\)"):
        records(path)
    flagged = bytearray(zipped(path, {"a.jsonl": LINES}).read_bytes())
    flagged[flagged.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(flagged)
    with pytest.raises(UserError, match=r"in\.zip cannot be read \(it is encrypted; unpack it and give the folder\)"):
        records(path)


def test_what_cannot_be_read_in_an_archive_is_told(tmp_path):
    path = zipped(tmp_path / "in.zip", {"a.parquet": b"PAR1", "b.txt": b"x", "license.txt": b"x"})
    with pytest.raises(UserError, match=r"in\.zip holds no .* file, only a\.parquet, b\.txt"):
        records(path)
