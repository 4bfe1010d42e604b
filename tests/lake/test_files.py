"""Atomic writes: a path holds its old content or the new one, whatever happens in between."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from lake.files import replacing, write_bytes, write_json, write_text


def test_a_file_is_replaced_and_its_digest_returned(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file.bin"
    write_bytes(path, b"old")
    assert write_bytes(path, b"new") == hashlib.sha256(b"new").hexdigest()
    assert path.read_bytes() == b"new"
    assert [p.name for p in path.parent.iterdir()] == ["file.bin"]


def test_texts_are_utf8_and_json_is_sorted(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "é")
    write_json(tmp_path / "b", {"z": 1, "a": [2]})
    assert (tmp_path / "a").read_bytes() == "é".encode()
    assert (tmp_path / "b").read_text() == '{\n "a": [\n  2\n ],\n "z": 1\n}\n'


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_failed_write_leaves_the_old_content_and_no_rest(tmp_path: Path, is_folder: bool) -> None:
    path = tmp_path / "target"
    if not is_folder:
        path.write_text("old")
    with pytest.raises(RuntimeError, match="stop"), replacing(path) as aside:
        if is_folder:
            aside.mkdir()
        (aside / "part" if is_folder else aside).write_text("half")
        raise RuntimeError("stop")
    assert [p.name for p in tmp_path.iterdir()] == ([] if is_folder else ["target"])
    assert is_folder or path.read_text() == "old"


def test_a_folder_appears_when_it_is_complete(tmp_path: Path) -> None:
    with replacing(tmp_path / "out") as aside:
        aside.mkdir()
        (aside / "file").write_text("x")
        assert not (tmp_path / "out").exists()
    assert (tmp_path / "out" / "file").read_text() == "x"


def test_two_writers_of_one_path_use_files_of_their_own(tmp_path: Path) -> None:
    with replacing(tmp_path / "out") as first, replacing(tmp_path / "out") as second:
        first.write_text("first")
        second.write_text("second")
    assert (tmp_path / "out").read_text() == "first", "the writer that ends last wins"
