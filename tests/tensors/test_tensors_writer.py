import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from omnicompose.errors import MergeError
from omnicompose.tensors import writer
from omnicompose.tensors.digest import FollowingDigest
from omnicompose.tensors.journal import JOURNAL_NAME, read_journal
from omnicompose.tensors.layout import make_layout
from omnicompose.tensors.pieces import Piece, Pieces
from omnicompose.tensors.source import TensorInfo
from omnicompose.tensors.writer import OutputFolder, check_free, partial_folder

TENSORS = {f"t{i}": torch.arange(5.0) + i for i in range(4)}
INFOS = [TensorInfo(name=n, dtype=t.dtype, shape=tuple(t.shape)) for n, t in TENSORS.items()]
JOBS = {name: f"job of {name}" for name in TENSORS}
LAYOUT = make_layout(INFOS, shard_bytes=40)


def open_folder(out: Path) -> OutputFolder:
    return OutputFolder(out, LAYOUT, {info.name: info.num_bytes for info in INFOS})


def write(folder: OutputFolder, name: str, first: int, values: torch.Tensor) -> None:
    place = folder.places()[name]
    offset = place.offset + first * values.itemsize
    folder.write(Piece(file=place.file, offset=offset, values=values, buffer=0))


def fill(folder: OutputFolder, names: list[str]) -> None:
    for name in names:
        # In two pieces, the last one first: the order of writes must not matter.
        write(folder, name, 2, TENSORS[name][2:])
        write(folder, name, 0, TENSORS[name][:2])
    digest = follow(folder)
    digest.complete(names)
    digest.stop()


def follow(folder: OutputFolder) -> FollowingDigest:
    return FollowingDigest(folder.digests, folder.note, Pieces(2))


def make(out: Path) -> None:
    folder = open_folder(out)
    folder.begin(JOBS, resume=False)
    fill(folder, list(TENSORS))
    folder.seal()
    folder.publish(overwrite=True)
    folder.close()


def contents(folder: Path) -> dict[str, torch.Tensor]:
    return {n: t for path in folder.glob("*.safetensors") for n, t in load_file(path).items()}


def test_a_finished_folder_holds_the_tensors_an_index_and_nothing_else(tmp_path):
    make(tmp_path / "out")
    assert {n: t.tolist() for n, t in contents(tmp_path / "out").items()} == {
        n: t.tolist() for n, t in TENSORS.items()
    }
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_is_intact_is_kept_and_what_is_not_is_done_again(tmp_path):
    folder = open_folder(tmp_path / "out")
    folder.begin(JOBS, resume=False)
    fill(folder, ["t0"])
    fill(folder, ["t1", "t2", "t3"])
    folder.measured("t0", {"error": 0.5})
    folder.measured("t1", {})
    write(folder, "t1", 0, torch.full((1,), 9.0))
    folder.close()
    assert not (tmp_path / "out").exists()
    journal = partial_folder(tmp_path / "out") / JOURNAL_NAME
    journal.write_bytes(journal.read_bytes() + b'{"tensor": "t1", "me')
    (partial_folder(tmp_path / "out") / "model-00001-of-00007.safetensors").touch()
    folder = open_folder(tmp_path / "out")
    folder.begin(JOBS, resume=True)
    assert sorted(folder.finished()) == ["t0", "t2", "t3"]
    kept = read_journal(folder.partial)
    assert {mark.file: mark.num_tensors for mark in kept.marks} == {
        "model-00001-of-00002.safetensors": 1,
        "model-00002-of-00002.safetensors": 2,
    }
    assert folder.measures == kept.measures == {"t0": {"error": 0.5}}
    fill(folder, ["t1"])
    folder.seal()
    folder.publish(overwrite=False)
    folder.close()
    assert contents(tmp_path / "out")["t1"].tolist() == TENSORS["t1"].tolist()
    assert not list((tmp_path / "out").glob("*-of-00007*"))


def test_without_resume_everything_is_begun_anew(tmp_path):
    folder = open_folder(tmp_path / "out")
    folder.begin(JOBS, resume=False)
    fill(folder, ["t0"])
    (folder.partial / "sub").mkdir()
    folder.close()
    folder = open_folder(tmp_path / "out")
    folder.begin(JOBS, resume=False)
    assert folder.finished() == frozenset()
    assert not (folder.partial / "sub").exists()
    folder.close()


@pytest.mark.parametrize(
    ("jobs", "reason"),
    [
        (JOBS | {"t0": "other"}, "computed otherwise now"),
        ({name: JOBS[name] for name in ("t1", "t2", "t3")}, "not in this plan"),
    ],
)
def test_another_plan_is_not_resumed(tmp_path, jobs, reason):
    folder = open_folder(tmp_path / "out")
    folder.begin(JOBS, resume=False)
    fill(folder, ["t0"])
    folder.close()
    folder = open_folder(tmp_path / "out")
    with pytest.raises(MergeError, match=f"'t0' is {reason}.*without --resume"):
        folder.begin(jobs, resume=True)
    folder.close()


def test_two_writers_do_not_meet(tmp_path):
    first = open_folder(tmp_path / "out")
    with pytest.raises(MergeError, match="another process is writing this output"):
        open_folder(tmp_path / "out")
    first.close()
    open_folder(tmp_path / "out").close()


def test_an_output_that_exists_is_kept_unless_told(tmp_path):
    check_free(tmp_path / "out", overwrite=False)
    make(tmp_path / "out")
    (tmp_path / "out" / "mine.txt").write_text("old")
    with pytest.raises(MergeError, match=r"found a folder of that name.*--overwrite"):
        check_free(tmp_path / "out", overwrite=False)
    check_free(tmp_path / "out", overwrite=True)
    make(tmp_path / "out")
    assert not (tmp_path / "out" / "mine.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    (tmp_path / "file").touch()
    with pytest.raises(MergeError, match="found a file of that name"):
        check_free(tmp_path / "file", overwrite=True)


def test_a_folder_that_appears_meanwhile_is_not_overwritten(tmp_path):
    folder = open_folder(tmp_path / "out")
    folder.begin(JOBS, resume=False)
    fill(folder, list(TENSORS))
    folder.seal()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    with pytest.raises(MergeError, match="found a folder of that name"):
        folder.publish(overwrite=False)
    folder.close()
    assert (tmp_path / "out" / "mine.txt").exists()


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(MergeError, match="cannot be made"):
        open_folder(tmp_path / "file" / "out")


def test_digests_follow_the_writers(tmp_path):
    folder = open_folder(tmp_path / "out")
    folder.begin(JOBS, resume=False)
    digest = follow(folder)
    for name, tensor in TENSORS.items():
        write(folder, name, 0, tensor)
    for names in (["t3"], ["t1", "t0"], ["t2"]):
        digest.complete(names)
    for name, sha256 in digest.result().items():
        assert hashlib.sha256((folder.partial / name).read_bytes()).hexdigest() == sha256
    folder.close()


def test_a_file_that_shrinks_under_the_digest_is_an_error(tmp_path):
    folder = open_folder(tmp_path / "out")
    folder.begin(JOBS, resume=False)
    os.truncate(folder.partial / LAYOUT.files[0].name, 100)
    digest = follow(folder)
    digest.complete(TENSORS)
    with pytest.raises(OSError, match="has become shorter"):
        digest.result()
    folder.close()


DAMAGED = {
    "empty": b"",
    "cut in the first line": b'{"jobs": {"t0"',
    "a number": b"1\n",
    "no jobs": b'{"job": {}}\n',
    "deep": b"[" * 100_000 + b"\n",
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_journal_without_a_first_line_is_begun_anew(tmp_path, kind):
    (tmp_path / JOURNAL_NAME).write_bytes(DAMAGED[kind])
    assert read_journal(tmp_path) is None


@pytest.mark.parametrize(
    "line",
    [
        b"\x00\x00",
        b"",
        b'{"file": "a", "tensors": 1}{"file"',
        b'{"file": "a", "tensors": -1, "sha256": "x"}',
        b'{"file": "a", "tensors": "1", "sha256": "x"}',
        b'{"file": "a", "tensors": 1}',
        b"[]",
    ],
)
def test_a_damaged_line_vouches_for_nothing(tmp_path, line):
    good = b'{"jobs": {"t": "j"}}\n{"file": "a", "tensors": 2, "sha256": "s"}\n'
    (tmp_path / JOURNAL_NAME).write_bytes(good + line + b"\n")
    assert [mark.num_tensors for mark in read_journal(tmp_path).marks] == [2]


def test_a_line_that_was_cut_short_is_not_glued_to_the_next(tmp_path, monkeypatch):
    folder = open_folder(tmp_path / "out")
    folder.begin(JOBS, resume=False)
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:5]))
    with pytest.raises(MergeError, match="cut short"):
        folder.measured("t0", {"error": 1.0})
    monkeypatch.undo()
    fill(folder, ["t0"])
    folder.close()
    assert read_journal(folder.partial).jobs == JOBS


def test_a_name_that_is_taken_meanwhile_costs_no_work(tmp_path):
    folder = open_folder(tmp_path / "out")
    folder.begin(JOBS, resume=False)
    fill(folder, list(TENSORS))
    folder.seal()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(MergeError, match="found a folder of that name"):
        folder.publish(overwrite=False)
    folder.close()
    folder = open_folder(tmp_path / "out")
    folder.begin(JOBS, resume=True)
    assert folder.finished() == set(TENSORS)
    folder.close()


def test_a_link_in_the_partial_folder_is_not_followed(tmp_path):
    partial = partial_folder(tmp_path / "out")
    partial.mkdir()
    (tmp_path / "precious").write_text("mine")
    jobs = json.dumps({"jobs": JOBS})
    (partial / JOURNAL_NAME).write_text(jobs + '\n{"file": "a", "tensors": 1, "sha256": ""}\n')
    (partial / LAYOUT.files[0].name).symlink_to(tmp_path / "precious")
    folder = open_folder(tmp_path / "out")
    with pytest.raises(MergeError, match="cannot be written"):
        folder.begin(JOBS, resume=True)
    folder.close()
    assert (tmp_path / "precious").read_text() == "mine"


@pytest.mark.parametrize("is_named", [False, True])
def test_a_kill_around_the_naming_leaves_a_whole_folder_or_none(tmp_path, monkeypatch, is_named):
    out, rename = tmp_path / "out", writer._rename

    def killed(*arguments, **options):
        if is_named:
            rename(*arguments, **options)
        os._exit(9)

    monkeypatch.setattr(writer, "_rename", killed)
    child = os.fork() or make(out)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert out.exists() == is_named and not list(out.glob("*.jsonl"))
    folder = open_folder(out)
    folder.begin(JOBS, resume=True)
    assert sorted(folder.finished()) == ([] if is_named else sorted(JOBS))
    folder.close()
    assert sorted(path.name for path in tmp_path.iterdir() if path != out) == [".out.partial"]
