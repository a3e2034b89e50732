"""Imports of exported code: a package that is lacking is missed only when it is used."""

import ast
import sys

ALWAYS_THERE = {"torch", "transformers", "numpy", "tokenizers", "safetensors", "huggingface_hub"}
"""torch, transformers, and what transformers itself cannot be installed without."""

STAND_IN = {
    "lacking.py": '''\
# Written by omnicompose; do not edit.
"""What stands for anything in a package that is not installed: using it says what to install."""


class _Lacking(type):
    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return lacking(cls.package)


def lacking(package):
    """A class that may be named in types and `except` clauses, but not be called."""

    def complain(cls, *args, **kwargs):
        raise ImportError(
            f"reading this medium needs the package {package!r}. "
            f'Run `pip install "transformers[vision,audio,video]"`, or give an array.'
        )

    return _Lacking("Lacking", (Exception,), {"package": package, "__new__": complain})
'''
}


def guarded(text: str) -> str:
    """A module's source in which imports of packages that may be lacking do not fail."""
    lines = text.splitlines(keepends=True)
    inserted = False
    for node in reversed(ast.parse(text).body):
        if isinstance(node, ast.Import | ast.ImportFrom) and (package := _doubtful(node)):
            original = "".join(lines[node.lineno - 1 : node.end_lineno])
            lines[node.lineno - 1 : node.end_lineno] = [_guard(original, node, package)]
            first, inserted = node.lineno - 1, True
    if inserted:
        lines.insert(first, "from .lacking import lacking\n\n")
    return "".join(lines)


def _doubtful(node: ast.Import | ast.ImportFrom) -> str | None:
    """The package of an import that is neither Python's, ours nor always there."""
    name = node.names[0].name if isinstance(node, ast.Import) else node.module or ""
    package = name.split(".")[0]
    known = package in ALWAYS_THERE or package in sys.stdlib_module_names
    return None if known or package == "omnicompose" else package


def _guard(original: str, node: ast.Import | ast.ImportFrom, package: str) -> str:
    names = [alias.asname or alias.name for alias in node.names]
    stand_ins = "".join(f"    {name} = lacking({package!r})\n" for name in names)
    indented = "".join(f"    {line}" for line in original.splitlines(keepends=True))
    return f"try:\n{indented}except ImportError:\n{stand_ins}"
