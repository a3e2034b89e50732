"""Imports run downward only, read off the static import graph."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "omnicompose"

MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "errors": (),
    "modalities": (),
    "settings": ("errors",),
    "media": ("errors", "modalities"),
    "tensors": ("errors",),
    "families": ("errors", "modalities"),
    "recipe": ("errors", "modalities", "tensors", "families"),
    "merging": ("recipe",),
    "zoo": ("errors", "modalities", "settings"),
    "experts": ("merging", "settings", "zoo"),
    "plan": ("experts",),
    "encoders": ("errors", "modalities", "settings", "tensors"),
    "connectors": ("errors", "modalities", "settings", "tensors"),
    "streams": ("encoders", "connectors"),
    "modeling": ("streams", "media"),
    "register": ("modeling",),
    "export": ("errors",),
    "card": ("errors",),
    "model_card": ("card",),
    "assembly": ("plan", "modeling"),
    "inspection": ("assembly",),
    "composer": ("assembly", "export", "model_card"),
    "bundle": ("plan", "export"),
    "statistics": ("composer",),
    "searching": ("statistics",),
    "aligning": ("plan", "export"),
    "merger": ("bundle", "searching"),
    "verification": ("composer",),
    "evaluation": ("zoo", "media", "modeling"),
    "training": ("assembly", "export", "media"),
    "zoo.train": ("training", "composer", "evaluation"),
    "replier": ("modeling",),
    "exporting": ("composer", "replier"),
    "serving": ("replier", "media"),
    "ask": ("media", "replier"),
    "shelf": ("errors",),
    "interference": ("composer", "evaluation"),
    "looking": ("interference",),
    "tuning": ("searching", "evaluation"),
    "benchmark": ("merger", "tuning"),
    "quickstart": ("merger", "evaluation", "ask", "shelf"),
    "commands": (
        "aligning",
        "benchmark",
        "quickstart",
        "tuning",
        "inspection",
        "interference",
        "looking",
        "exporting",
        "serving",
        "training",
        "verification",
        "zoo.train",
    ),
    "cli": ("commands",),
    "main": ("cli",),
}
"""Room to the rooms right below it; what those may import it may import too."""
ZOO_DATA = ("zoo", "catalog", "media", "options", "questions", "words", "world")
"""The zoo's modules that others may read; all the rest of it draws, speaks and trains."""


def room_of(module: str) -> str:
    """The first part; `recipe_yaml` belongs to `recipe`, `zoo.train_base` to `zoo.train`."""
    parts = module.split(".")[1:]
    if not parts:
        return "omnicompose"
    if parts[0] == "zoo":
        return "zoo" if parts[-1] in ZOO_DATA else "zoo.train"
    name = parts[0].strip("_")
    return name if name in MAY_IMPORT else name.split("_")[0]


def below(room: str, graph: Mapping[str, tuple[str, ...]]) -> set[str]:
    """Every room that `room` may import; recursion ends because the graph has no circle."""
    return {room} | {deeper for lower in graph[room] for deeper in below(lower, graph)}


def imported(path: Path) -> Iterator[str]:
    """Every module of the package that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.startswith("omnicompose."))
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "omnicompose":
                yield from (f"omnicompose.{name.name}" for name in node.names)
            elif (node.module or "").startswith("omnicompose."):
                yield str(node.module)


def module_of(path: Path, package: Path) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def upward_imports(package: Path) -> list[str]:
    """Every import that runs upward or sideways, as `file: room -> room`."""
    found = []
    for path in sorted(package.rglob("*.py")):
        room = room_of(module_of(path, package))
        if room == "omnicompose":  # the public names come from everywhere
            continue
        allowed = below(room, MAY_IMPORT)
        wrong = {room_of(name) for name in imported(path)} - allowed
        found += [f"{path.relative_to(package)}: {room} -> {other}" for other in sorted(wrong)]
    return found


def test_imports_run_downward() -> None:
    assert upward_imports(PACKAGE) == []


def test_every_room_has_its_place() -> None:
    rooms = {room_of(module_of(path, PACKAGE)) for path in PACKAGE.rglob("*.py")}
    assert rooms - {"omnicompose"} <= set(MAY_IMPORT)


def test_the_graph_of_rooms_has_no_circle() -> None:
    places = {room: place for place, room in enumerate(MAY_IMPORT)}
    for room, lower in MAY_IMPORT.items():
        assert all(places[other] < places[room] for other in lower), room


def test_evaluation_and_modeling_know_nothing_of_recipes() -> None:
    recipe_side = {"recipe", "merging", "experts", "plan", "composer"}
    for room in ("evaluation", "modeling", "streams", "encoders", "connectors"):
        assert not below(room, MAY_IMPORT) & recipe_side


@pytest.mark.parametrize(
    "line",
    [
        "from omnicompose.composer import compose",
        "import omnicompose.composer as composer",
        "from omnicompose import composer",
        "def late():\n    from omnicompose.composer import compose",
    ],
)
def test_an_upward_import_is_found(tmp_path: Path, line: str) -> None:
    package = tmp_path / "omnicompose"
    package.mkdir()
    (package / "errors.py").write_text(line, encoding="utf-8")
    assert upward_imports(package) == ["errors.py: errors -> composer"]
