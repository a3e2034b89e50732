"""A plan as a person reads it: what becomes of each tensor, then what all of it comes to."""

from collections import Counter
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from omnicompose.plan.make_plan import CompositePlan
from omnicompose.plan.merge_plan import MergePlan
from omnicompose.plan.render_rows import Row, join_blocks


def render_plan(plan: CompositePlan | MergePlan) -> RenderableType:
    """Tensors and inputs that are not used, blocks that are alike in one row; totals come last."""
    decided = plan.plan
    total = Text(
        f"{len(decided.entries)} tensors, {decided.bytes_to_write() / 1e6:,.1f} MB to write; "
        f"{len(decided.inventory)} inputs, {len(decided.dropped)} not used.",
        style="bold",
    )
    costs = [_costs(plan)] if isinstance(plan, CompositePlan) else []
    return Group(_tensors(plan), _dropped(plan), _outputs(plan), total, *costs)


def _costs(plan: CompositePlan) -> Text:
    cost = plan.cost()
    streams = ", ".join(
        f"{name} {size / 1e6:,.1f} MB" if size else f"{name} uses the text weights"
        for name, size in cost.stream_bytes.items()
    )
    return Text(
        f"{cost.bytes_to_read / 1e6:,.1f} MB to read; buffers {cost.peak_memory_bytes / 1e6:,.1f} "
        f"MB at most, {cost.least_memory_bytes / 1e6:,.1f} MB at least. Streams: {streams}."
    )


def _outputs(plan: CompositePlan | MergePlan) -> Table:
    tensors: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for entry in plan.plan.entries:
        tensors[entry.reason] += 1
        sizes[entry.reason] += entry.output.num_bytes
    rows = [
        (reason, str(count), f"{sizes[reason] / 1e6:,.2f}") for reason, count in tensors.items()
    ]
    return _table(("what", "tensors", "MB"), rows)


def _tensors(plan: CompositePlan | MergePlan) -> Table:
    rows = [
        (
            entry.output.name,
            "x".join(map(str, entry.output.shape)) or "scalar",
            str(entry.output.dtype).removeprefix("torch."),
            "\n".join(map(str, entry.inputs)),
        )
        for entry in plan.plan.entries
    ]
    return _table(("output", "shape", "dtype", "from"), join_blocks(rows))


def _dropped(plan: CompositePlan | MergePlan) -> Table:
    rows = [(str(origin), reason) for origin, reason in sorted(plan.plan.dropped.items())]
    return _table(("not used", "why"), join_blocks(rows))


def _table(columns: Row, rows: Sequence[Row]) -> Table:
    table = Table()
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table
