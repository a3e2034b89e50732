"""What the runner needs of a model; `composite.Composite` is the one that loads a folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from omnicompose.evaluation.line import text_sha256
from omnicompose.evaluation.sample import Medium
from omnicompose.evaluation.subsets import Content

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A user turn, and the exact text that the model reads up to its own first token.

    Attributes:
        content: media and texts of the turn.
        text: after the chat template; one placeholder per medium, not yet expanded.
        openings: how a reply that chooses each option begins; empty: with its letter.
    """

    content: Content
    text: str
    openings: tuple[str, ...] = ()

    @property
    def media(self) -> tuple[Medium, ...]:
        """The media given, in order."""
        return tuple(part for part in self.content if isinstance(part, Medium))

    @cached_property
    def sha256(self) -> str:
        """Digest of the exact text."""
        return text_sha256(self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A prompt ready for the model.

    Attributes:
        prompt: what it was.
        token_ids: with one placeholder per media embedding.
        embeddings: of each medium in order, `[T, D]`; kept alive as long as the prompt.
        places: where each medium's embeddings stand, `[4, T]`.
    """

    prompt: Prompt
    token_ids: tuple[int, ...]
    embeddings: tuple["torch.Tensor", ...] = ()
    places: tuple["torch.Tensor", ...] = ()

    @property
    def num_media_tokens(self) -> dict[str, int]:
        """Embeddings per modality."""
        counts: dict[str, int] = {}
        for medium, embedding in zip(self.prompt.media, self.embeddings, strict=True):
            counts[medium.modality] = counts.get(medium.modality, 0) + len(embedding)
        return counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A prompt whose media cannot be read.

    Attributes:
        reason: type and message of what went wrong, naming the file.
    """

    reason: str


class Answerer(Protocol):
    """A model with its processor. The same prompts in the same batch give the same answers.

    Methods that take a batch raise `MemoryError` where it does not fit.
    """

    @property
    def digest(self) -> str:
        """Digest of weights, configuration and processor; part of every cache key."""
        ...

    @property
    def dtype(self) -> str:
        """Of the computation; part of every cache key."""
        ...

    def render(self, contents: Sequence[Content]) -> list[str]:
        """The exact prompt of each user turn (`Prompt.text`)."""
        ...

    def prepare(self, prompts: Sequence[Prompt]) -> list[Prepared | Unreadable]:
        """Tokenise, and encode media that were not encoded before."""
        ...

    def letter_log_likelihoods(
        self, batch: Sequence[Prepared], num_letters: int
    ) -> list[tuple[float, ...]]:
        """Log-probability of each option's letter, or opening, as the token behind each prompt."""
        ...

    def generate(self, batch: Sequence[Prepared], max_new_tokens: int) -> list[str]:
        """Greedy replies."""
        ...

    def answer(
        self, batch: Sequence[Prepared], num_letters: int, max_new_tokens: int
    ) -> list[tuple[tuple[float, ...], str]]:
        """Both of the above for each prompt, which is read once."""
        ...
