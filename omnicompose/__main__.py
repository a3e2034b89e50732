"""`python -m omnicompose` is the program `omnicompose`."""

from omnicompose.cli import main

main()
