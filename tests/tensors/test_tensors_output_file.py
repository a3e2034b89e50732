import errno
import fcntl
import os
from pathlib import Path

import pytest
import torch

from omnicompose.tensors.layout import make_layout
from omnicompose.tensors.output_file import OutputFile
from omnicompose.tensors.pieces import PIECE_BYTES, Pieces
from omnicompose.tensors.source import TensorInfo

SIZE = PIECE_BYTES
(LAYOUT,) = make_layout(
    [TensorInfo(name="t", dtype=torch.uint8, shape=(SIZE,))], shard_bytes=1 << 30
).files
START = len(LAYOUT.header)


def filled(offset: int, size: int) -> memoryview:
    piece = Pieces(1).take(0, offset, torch.uint8, size)
    generator = torch.Generator().manual_seed(offset)
    piece.values.copy_(torch.randint(0, 256, (size,), generator=generator, dtype=torch.uint8))
    return piece.data


def direct_flags(monkeypatch, change):
    """Let `change` stand before every write, told whether it is a direct one."""
    write = os.pwrite

    def pwrite(descriptor, data, offset):
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        return change(bool(flags & os.O_DIRECT), write, descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("size", [1, 5000, 200_000, SIZE - 4096])
def test_what_is_written_is_there(tmp_path, aligned, size):
    file = OutputFile(tmp_path / "f", LAYOUT)
    data = filled(START if aligned else START + 1, size)
    file.write(data, START)
    file.sync()
    file.close()
    written = (tmp_path / "f").read_bytes()
    assert len(written) == LAYOUT.num_bytes
    assert written[:START] == LAYOUT.header
    assert written[START : START + size] == bytes(data)
    assert not any(written[START + size :])


def refuse(is_direct, write, descriptor, data, offset):
    if is_direct:
        raise OSError(errno.EINVAL, "no such writes here")
    return write(descriptor, data, offset)


def refuse_in_other_words(is_direct, write, descriptor, data, offset):
    if is_direct:
        raise OSError(errno.EOPNOTSUPP, "not supported")
    return write(descriptor, data, offset)


def take_little(is_direct, write, descriptor, data, offset):
    return write(descriptor, data[: 4096 if is_direct else 1000], offset)


@pytest.mark.parametrize("change", [refuse, refuse_in_other_words, take_little])
def test_what_goes_not_directly_goes_through_the_page_cache(tmp_path, monkeypatch, change):
    file = OutputFile(tmp_path / "f", LAYOUT)
    data = filled(START, 200_000)
    direct_flags(monkeypatch, change)
    file.write(data, START)
    file.close()
    assert (tmp_path / "f").read_bytes()[START : START + 200_000] == bytes(data)


def test_a_filesystem_without_direct_writes_is_written_to(tmp_path, monkeypatch):
    open_file = os.open

    def refuse_flag(path, flags, *mode):
        if flags & os.O_DIRECT == os.O_DIRECT:
            raise OSError(errno.EINVAL, "no such flag here")
        return open_file(path, flags, *mode)

    monkeypatch.setattr(os, "open", refuse_flag)
    file = OutputFile(tmp_path / "f", LAYOUT)
    file.write(filled(START, 200_000), START)
    file.close()
    assert (tmp_path / "f").read_bytes()[START : START + 200_000] == bytes(filled(START, 200_000))


def num_open() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_file_may_be_held_to_one_descriptor(tmp_path):
    before = num_open()
    file = OutputFile(tmp_path / "f", LAYOUT, direct=False)
    assert num_open() == before + 1
    file.write(filled(START, 200_000), START)
    file.close()
    assert (tmp_path / "f").read_bytes()[START : START + 200_000] == bytes(filled(START, 200_000))


@pytest.mark.parametrize("when", [True, False])
def test_a_full_disk_is_told(tmp_path, monkeypatch, when):
    def full(is_direct, write, descriptor, data, offset):
        if is_direct == when:
            raise OSError(errno.ENOSPC, "full")
        return write(descriptor, data, offset)

    file = OutputFile(tmp_path / "f", LAYOUT)
    direct_flags(monkeypatch, full)
    with pytest.raises(OSError, match="full"):
        file.write(filled(START, 200_000), START)
    file.close()
