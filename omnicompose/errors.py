"""Errors that a user can act on: where, what was found, what was expected, what to do."""


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
