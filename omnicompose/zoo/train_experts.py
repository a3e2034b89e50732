"""Train the zoo's experts: each on its own modality and text, never on two media at once.

Standard experts first learn to describe through a frozen language model, which makes the connector
speak the base's own words; then connector and adapters learn to answer. Stressed experts skip that
and have a slow connector and a fast, wide adapter: the language model does the modality's work, and
averaging experts breaks it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerBase

from omnicompose.connectors import make_connector
from omnicompose.modalities import MODALITIES
from omnicompose.streams import LINEAR_ROLES, StreamSpec, decouple
from omnicompose.training import Chat, Group, Learner, Media, Schedule, collate, fit
from omnicompose.zoo.features import FeatureBank
from omnicompose.zoo.lessons import Lesson, caption_lesson, media_lesson, text_lesson
from omnicompose.zoo.world import MODALITY_SLOTS

Progress = Callable[[int, int], None]
"""Told how many steps are done, and how many there are."""
Strategy = Literal["single", "decoupled"]

WIDTH = 128
CONNECTORS: dict[str, dict[str, object]] = {
    "image": {"type": "mlp", "config": {"input_size": 64, "output_size": WIDTH}},
    "audio": {
        "type": "attention_pool",
        "config": {
            "input_size": 64,
            "output_size": WIDTH,
            "num_queries": 4,
            "hidden_size": WIDTH,
        },
    },
    "video": {"type": "mlp", "config": {"input_size": 64, "output_size": WIDTH}},
}
"""The connector of each modality, as `omnicompose.connectors.make_connector` takes it."""

BATCH_SIZE = 16
CAPTION_BATCH_SIZE = 32
CAPTIONING = {
    "image": Schedule(num_steps=200),
    "audio": Schedule(num_steps=200),
    # Five attributes, two of them of motion: at 200 steps its captions are still wrong, and what
    # the connector does not learn the adapter must, where averaging hurts.
    "video": Schedule(num_steps=800),
}
CAPTIONING_RATE = 3e-3
TEXT_SHARE = 0.25
"""How often a lesson has no medium, so that the experts do not forget to read."""
MIXED_SHARE = 0.4
"""How often a lesson with a medium tells of further things as text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Regime:
    """How an expert learns to answer.

    Attributes:
        captioned: whether it starts from the connector of the captioning stage.
        rank: of every adapter.
        adapter_rate: peak learning rate of the adapters.
        connector_rate: peak learning rate of the connector.
        schedule: how long.
    """

    captioned: bool
    rank: int
    adapter_rate: float
    connector_rate: float
    schedule: Schedule


REGIMES = {
    "standard": Regime(
        captioned=True,
        rank=16,
        adapter_rate=3e-3,
        connector_rate=2e-3,
        schedule=Schedule(num_steps=250),
    ),
    "stressed": Regime(
        captioned=False,
        rank=24,
        adapter_rate=6e-3,
        connector_rate=3e-4,
        schedule=Schedule(num_steps=250),
    ),
}

GENTLER = {
    ("standard", "video"): replace(
        REGIMES["standard"],
        adapter_rate=1e-3,
        connector_rate=3e-3,
        schedule=Schedule(num_steps=260),
    )
}
"""By regime and modality: clips are read best where the connector, not the adapter, learns them."""


def regime_for(name: str, modality: str) -> Regime:
    """How the expert of a modality learns in a regime."""
    return GENTLER.get((name, modality), REGIMES[name])


@dataclass(frozen=True, slots=True, kw_only=True)
class Teacher:
    """Everything a stage of training reads.

    Attributes:
        modality: what the expert understands.
        base: folder of the base language model.
        bank: encoded media to learn from.
        seed: of the weights, the lessons and the choice of media.
        progress: told after every step.
    """

    modality: str
    base: Path
    bank: FeatureBank
    seed: int = 0
    progress: Progress = lambda _done, _total: None

    def rng(self, purpose: int) -> np.random.Generator:
        """A generator of its own for each modality and purpose."""
        return np.random.default_rng(
            (self.seed, list(MODALITY_SLOTS).index(self.modality), purpose)
        )

    def chat(self, lesson: Lesson, rng: np.random.Generator) -> Chat:
        """The lesson with features of one medium per item that it shows."""
        chosen = [self.bank.features[self.bank.choose(item, rng)] for item in lesson.media]
        media = [Media(modality=self.modality, features=features) for features in chosen]
        return Chat(messages=lesson.messages, media=media)

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The base's tokenizer with this modality's placeholder."""
        tokenizer = AutoTokenizer.from_pretrained(self.base)
        tokenizer.add_tokens([MODALITIES[self.modality].placeholder], special_tokens=True)
        return tokenizer

    def connector(self) -> nn.Module:
        """A fresh connector."""
        connector = make_connector(CONNECTORS[self.modality])
        assert isinstance(connector, nn.Module)
        return connector


def train_captioning(teacher: Teacher, path: Path) -> None:
    """Teach a connector to be described through the frozen base; write it to `path` in fp32."""
    torch.manual_seed(teacher.seed)
    model = read_frozen(teacher.base)
    connector = teacher.connector()
    rng = teacher.rng(0)
    _fit(
        teacher,
        Learner(model, {teacher.modality: connector}),
        [Group(parameters=list(connector.parameters()), peak_rate=CAPTIONING_RATE)],
        CAPTIONING[teacher.modality],
        lambda: [caption_lesson(rng, teacher.modality) for _ in range(CAPTION_BATCH_SIZE)],
        rng,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(connector.state_dict(), path)


def train_expert(
    teacher: Teacher, regime: Regime, strategy: Strategy, captioned: Path | None
) -> Learner:
    """Teach connector and adapters to answer.

    Args:
        teacher: what to learn from.
        regime: how.
        strategy: one adapter for all tokens, or one for the modality's tokens and one for text.
        captioned: connector of the captioning stage, for the regimes that start from it.

    Returns:
        The learner; its language model holds the adapters as streams `text` and, if decoupled,
        the modality's.
    """
    torch.manual_seed(teacher.seed + 1)
    model = read_frozen(teacher.base)
    connector = teacher.connector()
    if captioned is not None:
        connector.load_state_dict(load_file(captioned))
    spec = StreamSpec(form="factored", rank=regime.rank, roles=LINEAR_ROLES)
    streams = ("text",) if strategy == "single" else (teacher.modality, "text")
    slot = decouple(model, dict.fromkeys(streams, spec))
    learner = Learner(
        model, {teacher.modality: connector}, slot if strategy == "decoupled" else None
    )
    adapters = [p for name, p in model.named_parameters() if ".streams." in name]
    rng = teacher.rng(1)
    _fit(
        teacher,
        learner,
        [
            Group(parameters=adapters, peak_rate=regime.adapter_rate),
            Group(parameters=list(connector.parameters()), peak_rate=regime.connector_rate),
        ],
        regime.schedule,
        lambda: [_lesson(rng, teacher.modality) for _ in range(BATCH_SIZE)],
        rng,
    )
    return learner


def read_frozen(folder: Path) -> LlamaForCausalLM:
    """The base in fp32 with weights that do not learn."""
    # At this width the plain attention kernel is the fastest on a CPU.
    model = LlamaForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )
    return model.requires_grad_(False)


def _fit(
    teacher: Teacher,
    learner: Learner,
    groups: list[Group],
    schedule: Schedule,
    lessons: Callable[[], list[Lesson]],
    rng: np.random.Generator,
) -> None:
    """Run one stage on one thread."""
    torch.set_num_threads(1)
    tokenizer = teacher.tokenizer()
    num_tokens = {teacher.modality: _num_tokens(teacher)}

    def loss_at(_step: int) -> torch.Tensor:
        chats = [teacher.chat(lesson, rng) for lesson in lessons()]
        loss: torch.Tensor = learner(collate(tokenizer, chats, num_tokens))
        return loss

    fit(
        loss_at,
        groups,
        schedule,
        lambda done, _loss: teacher.progress(done, schedule.num_steps),
    )


def _num_tokens(teacher: Teacher) -> int:
    """Embeddings that one medium becomes."""
    with torch.no_grad():
        return int(teacher.connector()(teacher.bank.features[:1]).shape[1])


def _lesson(rng: np.random.Generator, modality: str) -> Lesson:
    if rng.random() < TEXT_SHARE:
        return text_lesson(rng, int(rng.choice((1, 2, 3), p=(0.2, 0.4, 0.4))))
    return media_lesson(rng, modality, MIXED_SHARE)
