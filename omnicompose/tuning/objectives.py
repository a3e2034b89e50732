"""What a candidate is worth: the numbers that a search makes small.

    likelihood   mean of -log p(right option), p over the options
    agreement    mean over experts m, over questions that show m alone, of
                 KL(p_m || p) + mean over layers of 1 - cos(h_m, h)
    entropy      mean of -sum p log p

p and h are the composite's next word and its hidden states at the last position of the prompt, p_m
and h_m those of expert m by itself. Only `likelihood` looks at answers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch

from omnicompose.errors import TuningError
from omnicompose.evaluation.answerer import Prepared, Prompt, Unreadable
from omnicompose.evaluation.composite import Composite
from omnicompose.tuning.questions import Asked

Objective = Callable[[], float]
Forward = Callable[..., "_Output"]


class _Output:
    logits: torch.Tensor
    hidden_states: tuple[torch.Tensor, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """What a model makes of questions, at the last position of each.

    Attributes:
        log_probabilities: `[n, V]` of the next word, over the base's vocabulary.
        hidden_states: `[n, layers + 1, D]`.
    """

    log_probabilities: torch.Tensor
    hidden_states: torch.Tensor


def prepare(composite: Composite, asked: Sequence[Asked]) -> list[Prepared]:
    """Tokenise questions and encode their media, once for all candidates.

    Raises:
        TuningError: a medium cannot be read.
    """
    texts = composite.render([one.content for one in asked])
    prompts = [
        Prompt(content=one.content, text=text, openings=one.openings)
        for one, text in zip(asked, texts, strict=True)
    ]
    prepared = composite.prepare(prompts)
    for one, found in zip(asked, prepared, strict=True):
        if isinstance(found, Unreadable):
            raise TuningError(f"question {one.id}: {found.reason}. Mend the file or leave it out.")
    return cast(list[Prepared], prepared)


def option_scores(
    composite: Composite, asked: Sequence[Asked], prepared: Sequence[Prepared], batch_size: int
) -> list[tuple[float, bool]]:
    """Per question -log p(right option) among its options, and whether it is the likeliest."""
    found: dict[int, tuple[float, bool]] = {}
    for places in _batches(prepared, batch_size):
        most = max(asked[i].num_options for i in places)
        rows = composite.letter_log_likelihoods([prepared[i] for i in places], most)
        for i, row in zip(places, rows, strict=True):
            log_p = torch.tensor(row[: asked[i].num_options]).log_softmax(0)
            answer = asked[i].answer
            assert answer is not None, "only questions with answers are scored"
            found[i] = (-float(log_p[answer]), int(log_p.argmax()) == answer)
    return [found[i] for i in range(len(asked))]


@torch.inference_mode()
def signature(
    composite: Composite, prepared: Sequence[Prepared], num_words: int, batch_size: int
) -> Signature:
    """What a model makes of prepared questions, over the first `num_words` of its vocabulary."""
    model = cast(Forward, composite.model)
    words: list[tuple[int, torch.Tensor]] = []
    states: dict[int, torch.Tensor] = {}
    for places in _batches(prepared, batch_size):
        batch = composite.batch([prepared[i] for i in places])
        output = model(
            **batch._asdict(), logits_to_keep=1, use_cache=False, output_hidden_states=True
        )
        log_p = output.logits[:, -1, :num_words].float().log_softmax(-1)
        hidden = torch.stack([layer[:, -1].float() for layer in output.hidden_states], dim=1)
        words += zip(places, log_p, strict=True)
        states |= zip(places, hidden, strict=True)
    return Signature(
        log_probabilities=torch.stack([row for _, row in sorted(words, key=lambda pair: pair[0])]),
        hidden_states=torch.stack([states[place] for place in sorted(states)]),
    )


def distance(expert: Signature, composite: Signature) -> float:
    """How far a composite lies from an expert, averaged over questions; 0 for the same model."""
    p, log_q = expert.log_probabilities.exp(), composite.log_probabilities
    divergence = (p * (expert.log_probabilities - log_q)).sum(-1).mean()
    cosine = torch.cosine_similarity(expert.hidden_states, composite.hidden_states, dim=-1)
    return float(divergence) + float((1.0 - cosine).mean())


def entropy(found: Signature) -> float:
    """Mean entropy of the next word, in nats."""
    log_p = found.log_probabilities
    return float(-(log_p.exp() * log_p).sum(-1).mean())


def own_questions(
    asked: Sequence[Asked], modalities: Sequence[str]
) -> Mapping[str, tuple[Asked, ...]]:
    """By modality the questions that show it alone.

    Raises:
        TuningError: an expert has none.
    """
    own = {m: tuple(one for one in asked if one.modalities == {m}) for m in modalities}
    if lacking := [modality for modality, found in own.items() if not found]:
        raise TuningError(
            f"--objective agreement: no question shows {', '.join(lacking)} alone; expected some "
            "for every expert. Name the experts' own tasks too, such as zoo/image."
        )
    return own


def _batches(prepared: Sequence[Prepared], batch_size: int) -> list[list[int]]:
    """Places of prompts of like length together."""
    order = sorted(range(len(prepared)), key=lambda i: (len(prepared[i].token_ids), i))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
