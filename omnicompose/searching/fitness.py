"""What a candidate is worth: on labelled data here, by a function of the user's, or by HTTP.

Less is better. A function `package.module:name` is called with the candidate's coefficients (plain
data) and the model in memory. An address gets the coefficients as JSON by POST and answers
`{"fitness": number}`; it never sees the model, only numbers, as a service that merges by itself
would want.
"""

import importlib
import json
import sys
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.error import URLError

from transformers import PreTrainedModel

from omnicompose.errors import TuningError

Candidate = Mapping[str, object]
Judge = Callable[[Candidate, PreTrainedModel], float]
TIMEOUT_SECONDS = 600


def named(fitness: str) -> Judge:
    """The fitness that a recipe names, if it is not `likelihood`; modules may lie where one is.

    Raises:
        TuningError: it is neither an address nor a function that can be imported.
    """
    if fitness.startswith(("http://", "https://")):
        return lambda candidate, _model: asked(fitness, candidate)
    module, _, name = fitness.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    try:
        found: Judge = getattr(importlib.import_module(module), name)
    except Exception as error:  # the user's own module may raise anything
        raise TuningError(
            f"fitness: found {fitness!r} ({type(error).__name__}: {error}); expected likelihood, "
            "an address, or `package.module:function` that Python can import, from the current "
            "folder too."
        ) from error
    return found


def asked(address: str, candidate: Candidate) -> float:
    """What an address says a candidate is worth.

    Raises:
        ValueError: it does not answer, or with something else than a number.
    """
    request = urllib.request.Request(
        address,
        data=json.dumps(candidate).encode(),
        headers={"Content-Type": "application/json"},
        method="POST",
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
            return float(json.loads(response.read())["fitness"])
    except (URLError, OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f'{address}: {error}; expected {{"fitness": number}}') from error
