"""The program `omnicompose`, also run by `python -m omnicompose`.

It imports nothing that takes time before an interruption can be told in words.
"""

import sys


def main() -> None:
    """Run the command line; interrupted while its modules load, it says so as it does later."""
    try:
        from omnicompose.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("omnicompose: interrupted.\n")
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
