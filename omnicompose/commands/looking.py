"""The command that shows what a recipe does: a tree, and heat maps over the layers."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from omnicompose.commands.options import AsJson, RecipeFile
from omnicompose.commands.output import show, show_json

if TYPE_CHECKING:
    from omnicompose.looking import Branch, Look

Measured = Annotated[
    bool,
    typer.Option("--measure/--no-measure", help="Read the backbones to see how they interfere."),
]
COLD, HOT = (38, 70, 83), (231, 111, 81)
"""Colours of the least and the greatest value of a row of cells, as red, green, blue."""


def look(recipe: RecipeFile, measure: Measured = True, as_json: AsJson = False) -> None:
    """Show a recipe's plan as a tree, its numbers as maps.

    The maps are of coefficients and interference over depth.
    """
    from omnicompose.looking import look_at

    found = look_at(recipe, measure=measure)
    show_json(found.to_json()) if as_json else show(look_view(found))


def look_view(found: "Look") -> RenderableType:
    """Tree and maps for a terminal."""
    views: list[RenderableType] = [plan_tree_view(found.tree)]
    layers = list(found.coefficients)
    experts = list(dict.fromkeys(name for row in found.coefficients.values() for name in row))
    rows = {one: [found.coefficients[at].get(one) for at in layers] for one in experts}
    if rows:
        views.append(heat_map("coefficients over depth", layers, rows, (0.0, 1.0)))
    if found.interference is not None:
        measured = found.interference.layers
        names = [layer.name for layer in measured]
        for title, kind, ends in MAPS:
            by_layer = [getattr(layer, kind) for layer in measured]
            keys = list(dict.fromkeys(key for one in by_layer for key in one))
            values = {key: [one.get(key) for one in by_layer] for key in keys}
            if values:
                views.append(heat_map(title, names, values, ends))
    return Group(*views)


MAPS: tuple[tuple[str, str, tuple[float, float] | None], ...] = (
    ("length of an expert's change, relative to the base", "norms", None),
    ("cosine of two changes: 0 unrelated, below opposed", "cosine", (-1.0, 1.0)),
    ("conflict: numbers that both change, in opposite directions", "conflict", (0.0, 1.0)),
)
"""Title, field and ends of the scale (None: the values' own)."""


def plan_tree_view(branch: "Branch") -> Tree:
    """A plan as a tree: what becomes of each part, and how large it is."""
    tree = Tree(_label(branch))
    for child in branch.branches:
        tree.add(plan_tree_view(child))
    return tree


def _label(branch: "Branch") -> Text:
    size = f"{branch.tensors} tensors, {branch.num_bytes / 1e6:,.2f} MB"
    fate = "" if branch.branches else "; ".join(branch.fate)
    return Text.assemble((branch.name, "bold"), f"  {size}  ", (fate, "dim"))


def heat_map(
    title: str,
    columns: Sequence[str],
    rows: Mapping[str, Sequence[float | None]],
    ends: tuple[float, float] | None,
) -> Table:
    """Numbers on a coloured ground, one row per name and one column per layer."""
    known = [value for row in rows.values() for value in row if value is not None]
    low, high = ends or (min(known, default=0.0), max(known, default=1.0))
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    for column in columns:
        table.add_column(column, justify="right")
    for name, values in rows.items():
        table.add_row(name, *(_cell(value, low, high) for value in values))
    return table


def _cell(value: float | None, low: float, high: float) -> Text:
    if value is None:
        return Text("")
    share = min(max((value - low) / (high - low), 0.0), 1.0) if high > low else 0.5
    red, green, blue = (
        round(cold + share * (hot - cold)) for cold, hot in zip(COLD, HOT, strict=True)
    )
    return Text(f" {value:.2f} ", style=f"white on rgb({red},{green},{blue})")
