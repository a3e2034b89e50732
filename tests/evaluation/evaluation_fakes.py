"""Models and benchmarks that need no weights: what they answer is known beforehand."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from omnicompose.evaluation.answerer import Prepared, Prompt, Unreadable
from omnicompose.evaluation.sample import LETTERS, Medium, Sample, Shown
from omnicompose.evaluation.subsets import Content
from omnicompose.evaluation.task import TaskSpec

Answer = Callable[[Prompt], str]


def noise(text: str) -> float:
    """A number in [0, 1) that depends on the text alone."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 16**8


def random_letter(prompt: Prompt) -> str:
    return LETTERS[int(4 * noise("letter" + prompt.text))]


@dataclass
class FakeAnswerer:
    """Says `say(prompt)`; media are read but not looked at."""

    say: Answer = random_letter
    digest: str = "fake"
    dtype: str = "float32"
    encoded: list[str] = field(default_factory=list)
    forwarded: list[int] = field(default_factory=list)

    def render(self, contents: Sequence[Content]) -> list[str]:
        return [
            "USER: "
            + "".join(p if isinstance(p, str) else f"<{p.modality}:{p.path.name}>" for p in content)
            + " ASSISTANT:"
            for content in contents
        ]

    def prepare(self, prompts: Sequence[Prompt]) -> list[Prepared | Unreadable]:
        return [self._prepare(prompt) for prompt in prompts]

    def _prepare(self, prompt: Prompt) -> Prepared | Unreadable:
        for medium in prompt.media:
            if not medium.path.is_file():
                return Unreadable(reason=f"FileNotFoundError: {medium.path}")
            if medium.sha256 not in self.encoded:
                self.encoded.append(medium.sha256)
        embeddings = tuple(torch.zeros(2, 1) for _ in prompt.media)
        return Prepared(prompt=prompt, token_ids=tuple(prompt.text.encode()), embeddings=embeddings)

    def letter_log_likelihoods(
        self, batch: Sequence[Prepared], num_letters: int
    ) -> list[tuple[float, ...]]:
        self.forwarded.append(len(batch))
        return [
            tuple(
                -0.5 if letter == self.say(p.prompt) else -2.0 - noise(letter + p.prompt.text)
                for letter in LETTERS[:num_letters]
            )
            for p in batch
        ]

    def generate(self, batch: Sequence[Prepared], max_new_tokens: int) -> list[str]:
        self.forwarded.append(len(batch))
        return [self.say(p.prompt) for p in batch]

    def answer(
        self, batch: Sequence[Prepared], num_letters: int, max_new_tokens: int
    ) -> list[tuple[tuple[float, ...], str]]:
        letters = self.letter_log_likelihoods(batch, num_letters)
        return [(s, self.say(p.prompt)) for s, p in zip(letters, batch, strict=True)]


SPEC = TaskSpec(
    name="fake/common",
    version=1,
    summary="What is common?",
    location="made here",
    licence="Apache-2.0",
    cluster_field="two questions each",
    prompt="",
    chance=0.25,
)


@dataclass
class FakeTask:
    """`num` questions over `modalities`, the right letter in no pattern or always `gold`."""

    num: int = 12
    modalities: tuple[str, ...] = ("image", "audio")
    gold: str | None = None
    spec: TaskSpec = SPEC
    missing: tuple[int, ...] = ()
    questions_per_cluster: int = 2

    def samples(self, media_dir: Path, limit: int | None) -> list[Sample]:
        return [self._sample(i, media_dir) for i in range(self.num)]

    def _sample(self, i: int, media_dir: Path) -> Sample:
        answer = LETTERS.index(self.gold) if self.gold else int(4 * noise(f"gold{i}"))
        shown = [
            Shown(medium=self._medium(media_dir, m, i), caption=f"[{m} {i}]")
            for m in self.modalities
        ]
        return Sample(
            id=f"q{i:04d}",
            cluster=f"c{i // self.questions_per_cluster:04d}",
            content=(*shown, f"what of {i}? right={LETTERS[answer]}"),
            choices=("one", "two", "three", "four"),
            answer=answer,
        )

    def _medium(self, media_dir: Path, modality: str, i: int) -> Medium:
        path = media_dir / f"{modality}{i}.bin"
        if i not in self.missing and not path.exists():
            media_dir.mkdir(parents=True, exist_ok=True)
            path.write_bytes(f"{modality}{i}".encode())
        return Medium(modality=modality, path=path, sha256=f"{modality}{i}")
