"""A plan for people: alike blocks in one row, what all of it comes to at the end."""

import io
from pathlib import Path

from rich.console import Console

from omnicompose.plan import make_plan, render_plan
from omnicompose.plan.render_rows import join_blocks
from omnicompose.recipe import read_compose_recipe


def test_alike_blocks_are_one_row() -> None:
    rows = [
        ("head.weight", "8x8", "a:head.weight"),
        *[(f"m.layers.{n}.up.weight", "8x8", f"a:layers.{n}.up.weight") for n in (0, 1, 2, 11)],
        ("m.layers.3.up.weight", "8x4", "a:layers.3.up.weight"),
        ("m.layers.4.up.weight", "8x8", "a:layers.9.up.weight"),
    ]
    assert join_blocks(rows) == [
        rows[0],
        ("m.layers.0-2,11.up.weight", "8x8", "a:layers.0-2,11.up.weight"),
        *rows[5:],
    ]


def test_only_the_first_number_of_a_name_is_a_block() -> None:
    rows = [(f"e.{block}.conv.{part}.w", "x") for block in (0, 1) for part in (0, 1)]
    assert join_blocks(rows) == [("e.0-1.conv.0.w", "x"), ("e.0-1.conv.1.w", "x")]


def test_every_source_of_a_row_names_its_blocks() -> None:
    rows = [(f"m.{n}.w", f"a:x.{n}.w\nb:y.{n}.w") for n in (0, 1)]
    assert join_blocks(rows) == [("m.0-1.w", "a:x.0-1.w\nb:y.0-1.w")]


def test_the_totals_come_last(tiny: Path) -> None:
    path = tiny / "render.yaml"
    path.write_text("base: base\nexperts: {image: {source: image}}\n")
    plan = make_plan(read_compose_recipe(path))
    console = Console(width=300, file=io.StringIO(), record=True)
    console.print(render_plan(plan))
    text = console.export_text()
    assert "model.language_model.layers.0-1.self_attn.q_proj.weight" in text
    assert "layers.1." not in text
    lines = text.splitlines()
    assert lines[-2].startswith(f"{len(plan.plan.entries)} tensors, ")
    assert "MB to read" in lines[-1]
