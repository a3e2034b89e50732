import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from omnicompose.tensors.pieces import (
    LEAST_KEPT_BYTES,
    PAGE_BYTES,
    PIECE_BYTES,
    Pieces,
    cuts,
)

SIZE = LEAST_KEPT_BYTES


def kept(pieces: Pieces, file: int, offset: int, value: int, size: int = SIZE) -> None:
    piece = pieces.take(file, offset, torch.uint8, size)
    piece.values.fill_(value)
    pieces.put_back(piece, keep=True)


@given(
    offset=st.integers(0, 3 * PAGE_BYTES),
    size=st.integers(1, 5000),
    itemsize=st.sampled_from([1, 2, 4, 8]),
    most=st.integers(1, 9000),
)
def test_cuts_give_every_element_once_and_lie_on_pages_where_they_can(offset, size, itemsize, most):
    found = cuts(offset, size, itemsize, most)
    assert [i for start, count in found for i in range(start, start + count)] == list(range(size))
    assert max(count for _, count in found) <= most
    if offset % itemsize == 0 and most * itemsize > 2 * PAGE_BYTES:
        assert all((offset + start * itemsize) % PAGE_BYTES == 0 for start, _ in found[1:])


@pytest.mark.parametrize(("offset", "dtype"), [(0, torch.float32), (4100, torch.bfloat16)])
def test_memory_is_aligned_as_the_file_is(offset, dtype):
    piece = Pieces(2).take(0, offset, dtype, 1000)
    assert (piece.values.data_ptr() - offset) % PAGE_BYTES == 0
    assert (piece.values.dtype, piece.end) == (dtype, offset + 1000 * dtype.itemsize)


def test_a_piece_that_cannot_be_aligned_is_given_all_the_same():
    pieces = Pieces(2)
    assert pieces.take(0, 4097, torch.float32, 3).values.shape == (3,)
    assert pieces.take(0, 100, torch.uint8, PIECE_BYTES).values.nbytes == PIECE_BYTES
    assert pieces.take(0, 0, torch.uint8, 1) is None


def test_bytes_are_found_from_any_position_in_a_piece_until_it_is_passed():
    pieces = Pieces(3)
    kept(pieces, 0, SIZE, 2)
    assert pieces.find(0, 0) is None
    kept(pieces, 0, 0, 1)
    kept(pieces, 1, 0, 3)
    assert not pieces.num_free
    assert bytes(pieces.find(0, 0)) == b"\1" * SIZE
    assert bytes(pieces.find(0, SIZE - 5)) == b"\1" * 5
    assert bytes(pieces.find(0, SIZE)) == b"\2" * SIZE
    assert pieces.num_free == 1
    assert pieces.find(0, 2 * SIZE) is None
    assert bytes(pieces.find(1, 0)) == b"\3" * SIZE
    assert pieces.num_free == 2


def test_the_piece_that_is_hashed_last_is_dropped_first():
    pieces = Pieces(2)
    pieces.drop()
    kept(pieces, 1, 0, 1)
    kept(pieces, 0, SIZE, 2)
    pieces.drop()
    assert pieces.num_free == 1
    assert pieces.find(0, SIZE) is not None


def test_no_more_pieces_are_kept_than_asked_for():
    none = Pieces(2, most_kept=0)
    assert not none.is_worth_keeping(none.take(0, 0, torch.uint8, SIZE))
    pieces = Pieces(3, most_kept=1)
    assert not pieces.is_full
    kept(pieces, 0, 0, 1)
    assert pieces.is_full
    assert pieces.num_free == 2


def test_small_pieces_and_unwritten_ones_are_not_kept():
    pieces = Pieces(1)
    kept(pieces, 0, 0, 1, SIZE - 1)
    pieces.put_back(pieces.take(0, 0, torch.uint8, SIZE), keep=False)
    assert pieces.num_free == 1
    assert pieces.find(0, 0) is None
