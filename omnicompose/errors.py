"""Errors that a user can act on: where, what was found, what was expected, what to do."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

REFUSALS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EFBIG,
    errno.EIO,
)
"""Error numbers by which a machine says no; all others are faults of ours."""
NUMBER = re.compile(r"\(os error (\d+)\)")
TORN = ("PytorchStreamWriter failed", "inline_container.cc")
"""What safetensors and torch make of such an error."""


class OmniComposeError(Exception):
    """A mistake that the user can mend; the command line prints its message without a traceback."""


class RecipeError(OmniComposeError):
    """What was asked for is malformed or contradicts itself."""


class SourceError(OmniComposeError):
    """An expert, checkpoint or adapter cannot be opened as what it claims to be."""


class PlanError(OmniComposeError):
    """The experts do not fit together, or a tensor cannot be accounted for."""


class MergeError(OmniComposeError):
    """A tensor cannot be merged, read or written."""


class MediaError(OmniComposeError):
    """A picture, sound or clip is not what its modality says, or holds nothing."""


class ModelInputError(OmniComposeError, ValueError):
    """The inputs given to a composite contradict one another or name a modality that it lacks."""


class ExportError(OmniComposeError):
    """A folder cannot be written, or does not hold what its manifest says."""


class EvaluationError(OmniComposeError):
    """A task, a sample or a results file is not what the evaluation needs."""


class TrainingError(OmniComposeError):
    """A training configuration or record cannot be used."""


class CalibrationError(OmniComposeError):
    """Data for calibration, or statistics of them, cannot be used."""


class TuningError(OmniComposeError):
    """A search for coefficients cannot run as asked for."""


class ServingError(OmniComposeError):
    """A server cannot start."""


class RequestError(OmniComposeError):
    """What a client asked a server for is malformed, too large or not offered."""


def disk_refusal(error: Exception) -> str | None:
    """What to tell a user whose disk said no; None if it was something else."""
    number = error.errno if isinstance(error, OSError) else None
    if found := NUMBER.search(str(error)):
        number = int(found[1])
    if number not in REFUSALS and not any(sign in str(error) for sign in TORN):
        return None
    place = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
    said = os.strerror(number) if number else "a file could not be written whole"
    return (
        f"{place}{said}. Make room or give leave there, or name another place; then run it again."
    )


@contextmanager
def clear_about_disk(kind: type[OmniComposeError]) -> Iterator[None]:
    """Give a disk's refusal as an error that says what to do; also usable as a decorator.

    Args:
        kind: the error to raise.

    Raises:
        OmniComposeError: of that kind; other errors pass as they are.
    """
    try:
        yield
    except OmniComposeError:
        raise
    except Exception as error:
        if (told := disk_refusal(error)) is None:
            raise
        raise kind(told) from error
