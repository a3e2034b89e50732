"""Tables of plain rows for the command line; nothing here prints."""

from collections.abc import Mapping, Sequence

from rich.console import Group
from rich.table import Table

Row = Mapping[str, object]


def rows_table(rows: Sequence[Row], columns: Sequence[str]) -> Table:
    """One line per row, with the columns that fit a screen; `--json` gives all fields."""
    table = Table()
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(_text(row[column]) for column in columns))
    return table


def fields_table(row: Row) -> Table:
    """Every field of one thing, one per line."""
    table = Table(show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in row.items():
        table.add_row(name.replace("_", " "), _text(value))
    return table


def methods_table(rows: Sequence[Row]) -> Table:
    """Every merging method in a few words."""
    short = [
        row | {"parameters": ", ".join(_defaults(row["parameters"]))} for row in map(dict, rows)
    ]
    return rows_table(short, ("name", "summary", "needs", "data", "parameters"))


def method_table(row: Row) -> Table:
    """One merging method in full."""
    parameters = {name: _explain(field) for name, field in _mapping(row["parameters"]).items()}
    profiles = {
        name: ", ".join(f"{key}={value}" for key, value in _mapping(values).items())
        for name, values in _mapping(row["profiles"]).items()
    }
    return fields_table(dict(row) | {"parameters": parameters, "profiles": profiles})


def inspection_view(found: Row) -> Group:
    """What a source is, what it is made of, and the adapter on it."""
    facts = {"source": found["source"], "kind": found["kind"]} | dict(_mapping(found["facts"]))
    parts = [_mapping(part) for part in _sequence(found["parts"])]
    columns = ("name", "num_tensors", "num_parameters", "num_bytes", "dtypes", "fate")
    adapter = _mapping(found["adapter"])
    below = [inspection_view(adapter)] if adapter else []
    return Group(fields_table(facts), rows_table(parts, columns), *below)


def results_table(results: Row) -> Table:
    """One line per set of questions, way of showing and way of scoring."""
    rows = [
        {
            "task": task,
            "questions about": row["group"],
            "shown": row["subset"],
            "score": row["score"],
            "n": row["n"],
            "accuracy": _accuracy(_mapping(row["accuracy"])),
            "unparsed": row["unparsed"],
            "errors": row["errors"],
        }
        for task, result in _mapping(results["tasks"]).items()
        for row in map(_mapping, _sequence(_mapping(result)["rows"]))
    ]
    return rows_table(rows, tuple(rows[0]) if rows else ())


def _accuracy(estimate: Row) -> str:
    value, low, high = (estimate[key] for key in ("value", "low", "high"))
    if not isinstance(value, float):
        return ""
    interval = f" [{low:.1%}, {high:.1%}]" if low is not None and high is not None else ""
    return f"{value:.1%}{interval}"


def _defaults(parameters: object) -> list[str]:
    fields = {name: _mapping(field) for name, field in _mapping(parameters).items()}
    return [f"{name}={field.get('default', '')}" for name, field in fields.items()]


def _explain(field: object) -> str:
    facts = _mapping(field)
    notes = [f"default {facts.get('default', 'empty')}"]
    notes += [f"{bound} {facts[bound]}" for bound in ("minimum", "maximum") if bound in facts]
    if isinstance(choices := facts.get("choices"), tuple):
        notes.append(f"one of {', '.join(map(str, choices))}")
    if facts.get("per_expert"):
        notes.append("or one value per expert")
    return f"{facts['description']} ({'; '.join(notes)})"


def _sequence(value: object) -> Sequence[object]:
    return value if isinstance(value, (list, tuple)) else ()


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _text(value: object) -> str:
    if isinstance(value, Mapping):
        return "\n".join(f"{key}: {_text(entry)}" for key, entry in value.items())
    if isinstance(value, (list, tuple)):
        return "\n".join(map(_text, value))
    return "" if value is None else str(value)
