"""What the capability zoo is made of, and how `omnicompose train` makes each member."""

from pathlib import Path

from omnicompose.zoo.capabilities.questions import CAPABILITIES, PRIMER, SKILL

BASE, MEDIA = "capability-base", "capability-media"
JOINT = "joint"
WAYS = ("lora", "full")
STAGES: tuple[str, ...] = (
    MEDIA,
    BASE,
    *(f"capability-{what}-{way}" for way in WAYS for what in (*CAPABILITIES, JOINT)),
)
"""Everything that is made, in the order of its making."""

BASE_STEPS, EXPERT_STEPS, JOINT_STEPS = 1000, 600, 3000
# Gentle rates: what is trained far from its base in its own direction cannot be merged with others.
LORA: dict[str, object] = {
    "strategy": "lora",
    "lora": {"rank": 16, "alpha": 16},
    "learning_rate": 2e-3,
    # Frozen: what is merged are products of low rank and nothing else.
    "connector_learning_rate": 0.0,
}
FULL: dict[str, object] = {
    "strategy": "full",
    "learning_rate": 3e-4,
    "connector_learning_rate": 3e-4,
}


def config_of(name: str, start: Path, seed: int) -> dict[str, object]:
    """How a member is trained.

    Args:
        name: of `STAGES`, but not the pictures.
        start: the checkpoint that it starts from.
        seed: of everything random.
    """
    what, way = (SKILL, "full") if name == BASE else name.split("-")[1:]
    stage = {"lora": LORA, "full": FULL}[way] | {
        "data": {"files": _files(what)},
        "steps": _steps(name, what),
        "batch_size": 24,
    }
    if name == BASE:
        stage |= {"learning_rate": 2.5e-3, "connector_learning_rate": 2.5e-3, "weight_decay": 0.05}
    return {
        "base": str(start.resolve()),
        "stages": [stage],
        "precision": "float32",
        "dtype": "float16",
        "seed": seed,
        "save_every": 0,
        "max_length": 256,
        "attention": "eager",
    }


def _files(what: str) -> list[str]:
    """The base learns its skill, its words and a little of all tasks, as real ones have.

    Experts learn their own task, the upper bound all of them.
    """
    if what == SKILL:
        return [f"{SKILL}.jsonl", "text.jsonl", f"{PRIMER}.jsonl"]
    return [f"{one}.jsonl" for one in (CAPABILITIES if what == JOINT else (what,))]


def _steps(name: str, what: str) -> int:
    if name == BASE:
        return BASE_STEPS
    return JOINT_STEPS if what == JOINT else EXPERT_STEPS
