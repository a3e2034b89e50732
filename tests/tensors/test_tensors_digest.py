import hashlib
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from omnicompose.tensors import pieces as pieces_module
from omnicompose.tensors.digest import FileDigest, FollowingDigest
from omnicompose.tensors.layout import make_layout
from omnicompose.tensors.output_file import OutputFile
from omnicompose.tensors.pieces import Pieces, cuts
from omnicompose.tensors.source import TensorInfo


class Writers:
    """Files that are filled through a digest by several threads, in any order."""

    def __init__(
        self, folder: Path, sizes: list[int], num_buffers: int, most_kept: int | None = None
    ) -> None:
        infos = [
            TensorInfo(name=f"t{i}", dtype=torch.uint8, shape=(n,)) for i, n in enumerate(sizes)
        ]
        self.layout = make_layout(infos, shard_bytes=max(sum(sizes) // 2, 1))
        self.paths = [folder / file.name for file in self.layout.files]
        self.files = [
            OutputFile(path, file) for path, file in zip(self.paths, self.layout.files, strict=True)
        ]
        digests = [
            FileDigest(f, file.descriptor)
            for f, file in zip(self.layout.files, self.files, strict=True)
        ]
        self.marks: list[object] = []
        self.pieces = Pieces(num_buffers, most_kept=most_kept)
        self.digest = FollowingDigest(digests, self.marks.append, self.pieces)
        self.num_kept = 0
        self.sizes = {info.name: info.num_bytes for info in infos}

    def work(self, most: int) -> list[tuple[str, int, int, int, int]]:
        """Name, file, offset, first byte and size of every piece."""
        return [
            (name, number, offset, start, count)
            for number, file in enumerate(self.layout.files)
            for name, offset in file.offsets.items()
            if self.sizes[name]
            for start, count in cuts(offset, self.sizes[name], 1, most)
        ]

    def write(self, number: int, offset: int, count: int) -> None:
        with self.digest.piece(number, offset, torch.uint8, count) as piece:
            piece.values.copy_((torch.arange(count) * 31 + offset) % 251)
            self.files[number].write(piece.data, offset)
        self.num_kept = max(self.num_kept, len(self.pieces._kept))

    def check(self) -> None:
        for path in self.paths:
            assert hashlib.sha256(path.read_bytes()).hexdigest() == self.digest.result()[path.name]


@given(
    sizes=st.lists(st.sampled_from([0, 1, 4096, 70_000, 300_000]), min_size=1, max_size=6),
    most=st.sampled_from([3000, 8192, 70_000, 1 << 20]),
    num_buffers=st.integers(1, 4),
    most_kept=st.integers(0, 4),
    seed=st.integers(0, 1000),
)
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_pieces_in_any_order_from_any_thread_give_the_hash_of_the_file(
    tmp_path, monkeypatch, sizes, most, num_buffers, most_kept, seed
):
    monkeypatch.setattr(pieces_module, "LEAST_KEPT_BYTES", 5000)
    writers = Writers(tmp_path, sizes, num_buffers, most_kept)
    work, lock = writers.work(most), threading.Lock()
    random.Random(seed).shuffle(work)
    left = {name: sum(1 for one in work if one[0] == name) for name in writers.sizes}
    writers.digest.complete(name for name in left if not left[name])

    def one(item):
        name, number, offset, start, count = item
        writers.write(number, offset + start, count)
        with lock:
            left[name] -= 1
            done = [name] if not left[name] else []
        writers.digest.complete(done)

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(one, work))
    writers.check()
    assert writers.num_kept <= most_kept
    for path in writers.paths:
        path.unlink()


def test_a_tensor_is_not_marked_before_it_is_reported_complete(tmp_path):
    writers = Writers(tmp_path, [100_000, 100_000, 100_000], 4)
    for name, number, offset, start, count in writers.work(1 << 20):
        writers.write(number, offset + start, count)
        if name == "t0":
            writers.digest.complete(["t0"])
    writers.digest.stop()
    assert [mark.num_tensors for mark in writers.marks] == [1]
    offset = writers.layout.files[0].offsets["t0"]
    hashed = writers.paths[0].read_bytes()[: offset + 100_000]
    assert writers.marks[0].sha256 == hashlib.sha256(hashed).hexdigest()


def test_a_piece_whose_filling_fails_is_free_again_and_not_hashed(tmp_path):
    writers = Writers(tmp_path, [100_000], 1)
    ((_, number, offset, start, count),) = writers.work(1 << 20)
    with (
        pytest.raises(ValueError, match="no result"),
        writers.digest.piece(number, offset + start, torch.uint8, count),
    ):
        raise ValueError("no result")
    writers.write(number, offset + start, count)
    writers.digest.complete(["t0"])
    writers.check()


def test_writers_go_on_when_the_digest_has_failed(tmp_path):
    writers = Writers(tmp_path, [100_000, 100_000, 100_000], 1)
    writers.paths[0].write_bytes(b"")
    writers.digest.complete(["t0"])
    for _, number, offset, start, count in writers.work(1 << 20)[1:]:
        writers.write(number, offset + start, count)
    with pytest.raises(OSError, match="has become shorter"):
        writers.digest.result()
