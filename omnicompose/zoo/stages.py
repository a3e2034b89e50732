"""What is trained to make a zoo, in which order, and from what."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from omnicompose.encoders.folder import read_encoder_description
from omnicompose.zoo.features import FeatureBank
from omnicompose.zoo.media import LIBRARY_PATH, MediaLibrary
from omnicompose.zoo.rendering import make_held_out_library
from omnicompose.zoo.train_base import CURRICULUM, SCHEDULE, train_base
from omnicompose.zoo.train_encoders import DESCRIPTIONS, SCHEDULES, train_encoder
from omnicompose.zoo.train_experts import (
    CAPTIONING,
    CONNECTORS,
    REGIMES,
    Progress,
    Strategy,
    Teacher,
    regime_for,
    train_captioning,
    train_expert,
)
from omnicompose.zoo.world import MODALITY_SLOTS
from omnicompose.zoo.write_experts import write_llava, write_llava_adapter, write_own_expert

NUM_TRAINING_MEDIA = 8000
WORK = ".work"
"""Where a zoo in the making keeps what does not ship."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """Where a zoo is made, and the seed of everything random in it.

    Attributes:
        out: the folder that becomes a zoo.
        seed: another seed gives another zoo.
    """

    out: Path
    seed: int = 0

    def place(self, name: str) -> Path:
        """The folder or file that a stage writes."""
        ships = not name.startswith(("captioning-", "encoder-image"))
        return self.out / name if ships else self.out / WORK / name

    @property
    def library(self) -> Path:
        """The held-out media."""
        return self.place("media") / LIBRARY_PATH.name

    def bank(self, modality: str) -> FeatureBank:
        """Encoded training media of a modality, kept from one stage to the next."""
        return FeatureBank.make(
            modality,
            self.place(f"encoder-{modality}"),
            split="train",
            count=NUM_TRAINING_MEDIA,
            seed=self.seed,
            cache=self.out / WORK / "features",
        )

    def teacher(self, modality: str, progress: Progress) -> Teacher:
        """What an expert of a modality learns from."""
        return Teacher(
            modality=modality,
            base=self.place("base"),
            bank=self.bank(modality),
            seed=self.seed,
            progress=progress,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One thing to train.

    Attributes:
        name: what it makes; a member of the zoo, or something that members are made from.
        needs: names of the stages whose results it reads.
        settings: everything else that its result depends on, but for the seed.
        run: makes it.
    """

    name: str
    needs: tuple[str, ...]
    settings: tuple[object, ...]
    run: Callable[[Workshop, Progress], None]

    def key(self, seed: int) -> str:
        """Changes when anything changes that the result depends on."""
        below = [STAGES[name].key(seed) for name in self.needs]
        return hashlib.sha256(repr((self.name, seed, self.settings, below)).encode()).hexdigest()


def _media(workshop: Workshop, progress: Progress) -> None:
    workshop.library.parent.mkdir(parents=True, exist_ok=True)
    make_held_out_library(workshop.seed).write(workshop.library)
    progress(1, 1)


def _encoder(modality: str) -> Callable[[Workshop, Progress], None]:
    def run(workshop: Workshop, progress: Progress) -> None:
        train_encoder(
            modality,
            workshop.place(f"encoder-{modality}"),
            seed=workshop.seed,
            library=MediaLibrary.read(workshop.library),
            progress=lambda _part, done, total: progress(done, total),
        )

    return run


def _base(workshop: Workshop, progress: Progress) -> None:
    train_base(workshop.place("base"), seed=workshop.seed, progress=progress)


def _captioning(modality: str) -> Callable[[Workshop, Progress], None]:
    def run(workshop: Workshop, progress: Progress) -> None:
        place = workshop.place(f"captioning-{modality}")
        train_captioning(workshop.teacher(modality, progress), place)

    return run


def _llava(workshop: Workshop, progress: Progress) -> None:
    write_llava(
        workshop.place("llava"),
        base=workshop.place("base"),
        encoder=workshop.place("encoder-image"),
        connector=workshop.place("captioning-image"),
    )
    progress(1, 1)


def _expert(
    name: str, modality: str, regime: str, strategy: Strategy
) -> Callable[[Workshop, Progress], None]:
    def run(workshop: Workshop, progress: Progress) -> None:
        captioned = (
            workshop.place(f"captioning-{modality}")
            if regime_for(regime, modality).captioned
            else None
        )
        teacher = workshop.teacher(modality, progress)
        learner = train_expert(teacher, regime_for(regime, modality), strategy, captioned)
        if modality == "image" and strategy == "single":
            write_llava_adapter(workshop.place(name), learner)
            return
        source = "llava" if modality == "image" else f"encoder-{modality}"
        encoder = read_encoder_description(workshop.place(f"encoder-{modality}"))
        write_own_expert(
            workshop.place(name),
            learner,
            modality=modality,
            strategy=strategy,
            encoder={**encoder, "source": f"zoo:{source}"},
        )

    return run


def _expert_stage(modality: str, regime: str, strategy: Strategy) -> Stage:
    name = f"{modality}-{regime}" + ("-decoupled" if strategy == "decoupled" else "")
    captioning = (f"captioning-{modality}",) if regime_for(regime, modality).captioned else ()
    return Stage(
        name=name,
        needs=("base", f"encoder-{modality}", *captioning),
        settings=(CONNECTORS[modality], regime_for(regime, modality), strategy, NUM_TRAINING_MEDIA),
        run=_expert(name, modality, regime, strategy),
    )


def _all_stages() -> list[Stage]:
    stages = [
        Stage(name="media", needs=(), settings=(), run=_media),
        Stage(name="base", needs=(), settings=(SCHEDULE, CURRICULUM), run=_base),
    ]
    for modality in MODALITY_SLOTS:
        schedules = SCHEDULES[modality], SCHEDULES["still"]
        stages += [
            Stage(
                name=f"encoder-{modality}",
                needs=("media",),
                settings=(DESCRIPTIONS[modality], *schedules),
                run=_encoder(modality),
            ),
            Stage(
                name=f"captioning-{modality}",
                needs=("base", f"encoder-{modality}"),
                settings=(CONNECTORS[modality], CAPTIONING[modality], NUM_TRAINING_MEDIA),
                run=_captioning(modality),
            ),
        ]
    llava_needs = ("base", "encoder-image", "captioning-image")
    stages.append(Stage(name="llava", needs=llava_needs, settings=(), run=_llava))
    strategies: tuple[Strategy, ...] = ("single", "decoupled")
    stages += [
        _expert_stage(modality, regime, strategy)
        for modality in MODALITY_SLOTS
        for regime in REGIMES
        for strategy in strategies
    ]
    return stages


STAGES: dict[str, Stage] = {stage.name: stage for stage in _all_stages()}
"""Every stage by name."""


def with_needs(names: tuple[str, ...]) -> list[Stage]:
    """The stages of the given names and all that they need, each after its needs."""
    ordered: dict[str, Stage] = {}

    def visit(name: str) -> None:
        for need in STAGES[name].needs:
            visit(need)
        ordered.setdefault(name, STAGES[name])

    for name in names:
        visit(name)
    return list(ordered.values())
