"""Where the shipped recipes lie: inside an installed package, or beside it in a checkout."""

from pathlib import Path

from omnicompose.errors import RecipeError

PACKAGE = Path(__file__).parent
SHELVES = (PACKAGE / "configs", PACKAGE.parent / "configs")


def config_path(name: str) -> Path:
    """The path of a shipped configuration.

    Args:
        name: of the file, such as `naive-standard.yaml`.

    Raises:
        RecipeError: there is none of that name.
    """
    for shelf in SHELVES:
        if (shelf / name).is_file():
            return shelf / name
    places = " and ".join(map(str, SHELVES))
    raise RecipeError(f"{name}: no such shipped configuration in {places}. Install again.")
