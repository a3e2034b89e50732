"""The commands of the command line, one function each; `omnicompose.cli` lists them."""
