"""What is trained to make a zoo, in which order, and from what."""

import hashlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from omnicompose.training.config import TrainConfig
from omnicompose.training.finishing import NOTES
from omnicompose.training.train import TrainOptions, train
from omnicompose.training.write_expert import CONNECTOR_FILE
from omnicompose.zoo.generators import (
    CURRICULUM,
    NUM_TRAINING_MEDIA,
    make_generators,
    make_pool,
)
from omnicompose.zoo.media import LIBRARY_PATH, MediaLibrary
from omnicompose.zoo.rendering import make_held_out_library
from omnicompose.zoo.train_base import base_config, write_fresh_base
from omnicompose.zoo.train_encoders import DESCRIPTIONS, SCHEDULES, train_encoder
from omnicompose.zoo.train_experts import (
    CONNECTORS,
    REGIMES,
    Strategy,
    answering_stage,
    captioning_stage,
    expert_config,
    regime_for,
)
from omnicompose.zoo.world import MODALITY_SLOTS
from omnicompose.zoo.write_experts import ship_expert, ship_llava_adapter, write_llava

WORK = ".work"
"""Where a zoo in the making keeps what does not ship."""
Progress = Callable[[int, int], None]
"""Told how many steps are done, and how many there are."""


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
        ships = not name.startswith(("captioning-", "encoder-image", "pool-"))
        return self.out / name if ships else self.out / WORK / name

    @property
    def library(self) -> Path:
        """The held-out media."""
        return self.place("media") / LIBRARY_PATH.name

    def train(self, name: str, asked: Mapping[str, object], progress: Progress) -> Path:
        """Run `omnicompose train` in the workshop; the folder that it wrote.

        Args:
            name: of the folder, which does not ship.
            asked: the configuration, as its YAML file would hold it.
            progress: told after every step.
        """
        config = TrainConfig.model_validate({**asked, "seed": self.seed})
        out = self.out / WORK / name
        train(
            config,
            out,
            TrainOptions(overwrite=True, device="cpu"),
            lambda _stage, done, total, _loss: progress(done, total),
            make_generators(pools=self.out / WORK),
        )
        return out


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
    fresh = workshop.out / WORK / "fresh-base"
    write_fresh_base(fresh, workshop.seed)
    trained = workshop.train("base", base_config(fresh), progress)
    shutil.rmtree(workshop.place("base"), ignore_errors=True)
    shutil.copytree(trained, workshop.place("base"), ignore=shutil.ignore_patterns(NOTES))


def _expert_places(workshop: Workshop, modality: str) -> dict[str, str]:
    names = {"base": "base", "encoder": f"encoder-{modality}"}
    return {part: str(workshop.place(name)) for part, name in names.items()}


def _pool(modality: str) -> Callable[[Workshop, Progress], None]:
    def run(workshop: Workshop, progress: Progress) -> None:
        make_pool(workshop.place(f"pool-{modality}"), modality, workshop.seed)
        progress(1, 1)

    return run


def _captioning(modality: str) -> Callable[[Workshop, Progress], None]:
    def run(workshop: Workshop, progress: Progress) -> None:
        places = _expert_places(workshop, modality)
        asked = expert_config(modality, [captioning_stage(modality)], places)
        # Not rounded: the experts go on from it.
        workshop.train(f"captioning-{modality}", {**asked, "dtype": "float32"}, progress)

    return run


def _llava(workshop: Workshop, progress: Progress) -> None:
    write_llava(
        workshop.place("llava"),
        base=workshop.place("base"),
        encoder=workshop.place("encoder-image"),
        connector=workshop.place("captioning-image") / CONNECTOR_FILE,
    )
    progress(1, 1)


def _expert(
    name: str, modality: str, regime: str, strategy: Strategy
) -> Callable[[Workshop, Progress], None]:
    def run(workshop: Workshop, progress: Progress) -> None:
        how = regime_for(regime, modality)
        stage = answering_stage(how, strategy)
        asked = expert_config(modality, [stage], _expert_places(workshop, modality))
        if how.captioned:
            captioned = workshop.place(f"captioning-{modality}") / CONNECTOR_FILE
            asked["connector"] = {**CONNECTORS[modality], "weights": str(captioned)}
        trained = workshop.train(name, asked, progress)
        if modality == "image" and strategy == "single":
            ship_llava_adapter(trained, workshop.place(name))
        else:
            encoder = "llava" if modality == "image" else f"encoder-{modality}"
            ship_expert(trained, workshop.place(name), encoder)

    return run


def _expert_stage(modality: str, regime: str, strategy: Strategy) -> Stage:
    name = f"{modality}-{regime}" + ("-decoupled" if strategy == "decoupled" else "")
    captioning = (f"captioning-{modality}",) if regime_for(regime, modality).captioned else ()
    return Stage(
        name=name,
        needs=("base", f"encoder-{modality}", f"pool-{modality}", *captioning),
        settings=(CONNECTORS[modality], regime_for(regime, modality), strategy),
        run=_expert(name, modality, regime, strategy),
    )


def _all_stages() -> list[Stage]:
    stages = [
        Stage(name="media", needs=(), settings=(), run=_media),
        Stage(name="base", needs=(), settings=(base_config(Path()), CURRICULUM), run=_base),
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
                name=f"pool-{modality}",
                needs=(),
                settings=(NUM_TRAINING_MEDIA,),
                run=_pool(modality),
            ),
            Stage(
                name=f"captioning-{modality}",
                needs=("base", f"encoder-{modality}", f"pool-{modality}"),
                settings=(CONNECTORS[modality], captioning_stage(modality)),
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
