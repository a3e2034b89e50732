"""A plan as a person reads it: totals, what happens to each kind of tensor, what is dropped."""

from collections import Counter

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from omnicompose.plan.make_plan import CompositePlan
from omnicompose.plan.merge_plan import MergePlan


def render_plan(plan: CompositePlan | MergePlan) -> RenderableType:
    """Tables of outputs by reason and of dropped inputs by reason, then every tensor."""
    decided = plan.plan
    title = Text(
        f"{len(decided.entries)} tensors, {decided.bytes_to_write() / 1e6:,.1f} MB to write; "
        f"{len(decided.inventory)} inputs, {len(decided.dropped)} not used.",
        style="bold",
    )
    if isinstance(plan, CompositePlan):
        return Group(title, _costs(plan), _outputs(plan), _tensors(plan), _dropped(plan))
    return Group(title, _outputs(plan), _tensors(plan), _dropped(plan))


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
    table = _table("what", "tensors", "MB")
    tensors: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for entry in plan.plan.entries:
        tensors[entry.reason] += 1
        sizes[entry.reason] += entry.output.num_bytes
    for reason, count in tensors.items():
        table.add_row(reason, str(count), f"{sizes[reason] / 1e6:,.2f}")
    return table


def _tensors(plan: CompositePlan | MergePlan) -> Table:
    table = _table("output", "shape", "dtype", "from")
    for entry in plan.plan.entries:
        output = entry.output
        table.add_row(
            output.name,
            "x".join(map(str, output.shape)) or "scalar",
            str(output.dtype).removeprefix("torch."),
            "\n".join(map(str, entry.inputs)),
        )
    return table


def _dropped(plan: CompositePlan | MergePlan) -> Table:
    table = _table("not used", "why")
    for origin, reason in sorted(plan.plan.dropped.items()):
        table.add_row(str(origin), reason)
    return table


def _table(*columns: str) -> Table:
    table = Table()
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
