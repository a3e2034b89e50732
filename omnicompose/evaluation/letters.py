"""The letter score: how likely is each option's letter as the very next token?

Where a benchmark's models say an option's words before its letter (the zoo's do: a model this small
learns no other order), the first token of those words stands in for the letter.

One forward pass per question, deterministic, never unparsed. The token must be the one that follows
the exact prompt bytes: whether a tokenizer writes `A` or ` A` there depends on those bytes, so both
spellings are tried, and whichever are one token count together.
"""

import math
from collections.abc import Callable, Sequence

from omnicompose.errors import EvaluationError
from omnicompose.evaluation.sample import LETTERS

SPELLINGS = ("{}", " {}")
DECIMALS = 6
"""Of stored log-likelihoods: more would be noise of the arithmetic."""

Tokenize = Callable[[str], Sequence[int]]


def letter_token_ids(tokenize: Tokenize, prompt: str, beginnings: Sequence[str]) -> list[list[int]]:
    """Token ids that begin each option's reply right behind `prompt`, `[spelling][option]`.

    Args:
        tokenize: text to ids, as the prompt itself is tokenised.
        prompt: the exact text in front of the letter.
        beginnings: each option's letter, or the words that its reply begins with.

    Raises:
        EvaluationError: in no spelling does every option begin with a token of its own.
    """
    before = list(tokenize(prompt))
    found = []
    for spelling in SPELLINGS:
        ids = [
            _first_token(before, tokenize(prompt + spelling.format(beginning)))
            for beginning in beginnings
        ]
        distinct = {token_id for token_id in ids if token_id is not None}
        if len(distinct) == len(beginnings):
            found.append([token_id for token_id in ids if token_id is not None])
    if not found:
        raise EvaluationError(
            f"letter score: behind a prompt that ends in {prompt[-24:]!r} this tokenizer does not "
            f"begin each of {', '.join(beginnings)} with a token of its own; "
            "use --score generate for this model."
        )
    return found


def probabilities(log_likelihoods: Sequence[float]) -> tuple[float, ...]:
    """Softmax over the options' letters only: it sums to 1."""
    highest = max(log_likelihoods)
    weights = [math.exp(value - highest) for value in log_likelihoods]
    return tuple(weight / sum(weights) for weight in weights)


def letter_mass(log_likelihoods: Sequence[float]) -> float:
    """Probability that the next token is any of the letters; low: it did not want to answer so."""
    return sum(math.exp(value) for value in log_likelihoods)


def best_letter(log_likelihoods: Sequence[float]) -> str:
    """The most likely letter; of equals the first."""
    return LETTERS[max(range(len(log_likelihoods)), key=lambda i: log_likelihoods[i])]


def _first_token(before: list[int], after: Sequence[int]) -> int | None:
    ids = list(after)
    grown = len(ids) > len(before) and ids[: len(before)] == before
    return ids[len(before)] if grown else None
