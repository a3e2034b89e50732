"""Copy the table that `omnicompose quickstart` wrote into the README, between its markers.

python benchmarks/update_readme.py quickstart
"""

import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- results:quickstart -->\n", "<!-- /results:quickstart -->"


def update(text: str, table: str) -> str:
    """The README's text with `table` between the markers."""
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"{README}: the markers {BEGIN.strip()} ... {END} are gone.")
    return f"{before}{BEGIN}{table}{END}{after}"


def main() -> None:
    """Read `table.md` of the folder named on the command line."""
    table = (Path(sys.argv[1]) / "table.md").read_text(encoding="utf-8")
    README.write_text(update(README.read_text(encoding="utf-8"), table), encoding="utf-8")
    print(f"{README}: updated.")


if __name__ == "__main__":
    main()
