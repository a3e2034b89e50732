"""How checkpoints name their tensors: one tuple of prefix rules per on-disk layout.

Two kinds exist for nearly every family (specs/environment.md 2.5): the names of the classes in
memory, which newer checkpoints have on disk too, and the hub's older names. A layout is taken only
if it explains every tensor of a checkpoint, so the order in which they are tried does not matter
beyond names that both explain.
"""

from omnicompose.families.family import Rule

TEXT = (Rule("model.", "backbone", to="model."), Rule("lm_head.", "backbone", to="lm_head."))

LLAVA_ON_DISK = (
    Rule("language_model.model.", "backbone", to="model."),
    Rule("language_model.lm_head.", "backbone", to="lm_head."),
    Rule("vision_tower.vision_model.", "encoder", "image", to="tower."),
    Rule("vision_tower.", "encoder", "image", to="tower."),
    Rule("multi_modal_projector.", "connector", "image"),
)
LLAVA_IN_MEMORY = (
    Rule("model.language_model.", "backbone", to="model."),
    Rule("lm_head.", "backbone", to="lm_head."),
    Rule("model.vision_tower.vision_model.", "encoder", "image", to="tower."),
    Rule("model.vision_tower.", "encoder", "image", to="tower."),
    Rule("model.multi_modal_projector.", "connector", "image"),
)


def in_memory(*children: str, language_model: str = "language_model") -> tuple[Rule, ...]:
    """The names of the class itself: `model.<child>`, the language model and the head."""
    return (
        Rule(f"model.{language_model}.", "backbone", to="model."),
        Rule("lm_head.", "backbone", to="lm_head."),
        *(rule for child in children for rule in _child(f"model.{child}", child)),
    )


def wrapped(*children: str) -> tuple[Rule, ...]:
    """The hub's older names: a whole causal language model beside `<child>`."""
    return (
        Rule("language_model.model.", "backbone", to="model."),
        Rule("language_model.lm_head.", "backbone", to="lm_head."),
        *(rule for child in children for rule in _child(child, child)),
    )


def beside(*children: str, prefix: str = "", unused: tuple[str, ...] = ()) -> tuple[Rule, ...]:
    """The hub's older names of the Qwen family: `model.layers` and `<child>` side by side.

    Args:
        children: of the base model.
        prefix: before every name that is used.
        unused: prefixes of parts that compose with nothing.
    """
    return (
        *(rule for child in children for rule in _child(f"{prefix}{child}", child)),
        Rule(f"{prefix}model.", "backbone", to="model."),
        Rule(f"{prefix}lm_head.", "backbone", to="lm_head."),
        *(Rule(start, "unused", to=start) for start in unused),
    )


def _child(on_disk: str, child: str) -> tuple[Rule, ...]:
    """A child's tensors; vision towers were long saved with one more level, `vision_model.`."""
    if not child.endswith("."):
        return (Rule(on_disk, "encoder", to=child),)
    return (
        Rule(f"{on_disk}vision_model.", "encoder", to=child),
        Rule(on_disk, "encoder", to=child),
    )
