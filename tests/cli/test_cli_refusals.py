"""What a disk refuses is told in words; everything else stays a fault of ours."""

import errno

import pytest

from omnicompose.errors import TrainingError, clear_about_disk, disk_refusal


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "x"), "No space left on device. Make room"),
        (OSError(errno.EROFS, "x", "/there"), "/there: Read-only file system. Make room"),
        (PermissionError(errno.EACCES, "x", "/there"), "/there: Permission denied. "),
        (RuntimeError("I/O error: No space left (os error 28)"), "No space left on device. "),
        (RuntimeError("PytorchStreamWriter failed writing file"), "could not be written whole"),
    ],
)
def test_what_a_disk_says_is_passed_on(error: Exception, told: str) -> None:
    assert told in str(disk_refusal(error))
    with pytest.raises(TrainingError, match="run it again"), clear_about_disk(TrainingError):
        raise error


@pytest.mark.parametrize("error", [ValueError("x"), FileNotFoundError(errno.ENOENT, "x")])
def test_all_else_stays_what_it_is(error: Exception) -> None:
    assert disk_refusal(error) is None
    with pytest.raises(type(error)), clear_about_disk(TrainingError):
        raise error
