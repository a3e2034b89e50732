"""YAML with line numbers: what a recipe file holds, and where in the file each value stands."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from omnicompose.errors import RecipeError

Location = Sequence[int | str]
"""Keys and indexes from the top of the file to a value."""


class _Loader(yaml.SafeLoader):
    """YAML as people write it today: `1e-3` is a number (YAML 1.1 reads a word)."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class YamlFile:
    """A parsed YAML file.

    Attributes:
        path: as the user named it.
        content: the mapping at its top.
        root: the syntax tree, which knows the lines.
    """

    path: Path
    content: dict[str, object]
    root: yaml.MappingNode

    def line(self, location: Location, *, of_key: bool = False) -> int:
        """The line, counted from 1, of the value at `location` or of the nearest one above it.

        Args:
            location: keys and indexes from the top.
            of_key: the line of the last key itself rather than of its value.
        """
        node: yaml.Node = self.root
        line = node.start_mark.line
        for depth, part in enumerate(location):
            found = _child(node, part)
            if found is None:
                break
            key, node = found
            is_last = depth == len(location) - 1
            line = (key if of_key and is_last else node).start_mark.line
        return line + 1

    def message(self, line: int, text: str) -> str:
        """One mistake in the form that editors can jump to."""
        return f"{self.path}:{line}: {text}"


def read_yaml(path: Path) -> YamlFile:
    """Read a YAML file whose top is a mapping.

    Raises:
        RecipeError: the file cannot be read, is not YAML, is empty, is not a mapping, or has a key
            twice; the message names the line.
    """
    text = _read_text(path)
    try:
        root, content = _parse(path, text)
    except yaml.MarkedYAMLError as err:
        raise RecipeError(_syntax_message(path, err)) from err
    except (yaml.YAMLError, ValueError, RecursionError) as err:
        raise RecipeError(f"{path}:1: not YAML: {str(err).splitlines()[0]}.") from err
    return YamlFile(path=path, content={str(key): content[key] for key in content}, root=root)


def _parse(path: Path, text: str) -> tuple[yaml.MappingNode, dict[object, object]]:
    loader = _Loader(text)
    root = loader.get_single_node()
    if root is None:
        raise RecipeError(f"{path}:1: the file is empty. Write a recipe: see configs/.")
    if not isinstance(root, yaml.MappingNode):
        raise RecipeError(
            f"{path}:{root.start_mark.line + 1}: found no keys at the top, expected "
            "`key: value` lines such as `base: zoo:base`."
        )
    _refuse_duplicates(path, root)
    return root, loader.construct_document(root)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as err:
        raise RecipeError(f"{path}: there is no such recipe file.") from err
    except IsADirectoryError as err:
        raise RecipeError(f"{path}: found a folder, expected a recipe file (YAML).") from err
    except UnicodeDecodeError as err:
        raise RecipeError(f"{path}:1: not YAML: the file is not UTF-8 text.") from err
    except OSError as err:
        raise RecipeError(f"{path}: cannot be read: {err.strerror}.") from err


def _syntax_message(path: Path, err: yaml.MarkedYAMLError) -> str:
    mark = err.problem_mark or err.context_mark
    line = mark.line + 1 if mark else 1
    problem = err.problem or err.context or "unreadable"
    return f"{path}:{line}: not YAML: {problem}."


def _refuse_duplicates(path: Path, root: yaml.Node) -> None:
    problems = [
        f"{path}:{line}: key {key!r} stands here for the second time in one mapping. Keep one."
        for key, line in _duplicates(root, set())
    ]
    if problems:
        raise RecipeError("\n".join(problems))


def _duplicates(node: yaml.Node, visited: set[int]) -> Iterator[tuple[str, int]]:
    if id(node) in visited:  # an alias
        return
    visited.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for child in node.value:
            yield from _duplicates(child, visited)
    elif isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    yield key.value, key.start_mark.line + 1
                seen.add(key.value)
            yield from _duplicates(value, visited)


def _child(node: yaml.Node, part: int | str) -> tuple[yaml.Node, yaml.Node] | None:
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part]
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return key, value
    return None
