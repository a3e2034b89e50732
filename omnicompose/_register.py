"""After `import omnicompose`, transformers' Auto classes know composites, yet nothing was loaded.

Registering for real imports torch and the model code, seconds that `omnicompose --help` must not
pay; and importing it whenever transformers is imported would catch transformers half loaded. So two
tables of the Auto classes get a content that registers at the first question about composites:
`AutoConfig` asks for the model type, `AutoProcessor` goes through all processors by name. Where
transformers is not imported yet, an import hook waits for the two modules that hold the tables.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

MODEL_TYPE = "omnicompose"
TABLES = {
    "transformers.models.auto.configuration_auto": "CONFIG_MAPPING",
    "transformers.models.auto.processing_auto": "PROCESSOR_MAPPING",
}


class _AskedContent(dict):  # type: ignore[type-arg]  # transformers' own dict of extra entries
    """Registered classes of one table; asking for ours registers it first."""

    def __contains__(self, key: object) -> bool:
        if key == MODEL_TYPE:
            _register()
        return super().__contains__(key)

    def values(self):  # type: ignore[no-untyped-def]
        _register()
        return super().values()


class _Waiting(MetaPathFinder):
    """Stands in the way of the two modules only, and only until they are loaded."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module's ordinary spec, with our table put in after it has run."""
        if fullname not in TABLES:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _ThenPrepare(spec.loader)
        return spec


class _ThenPrepare(Loader):
    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.loader.exec_module(module)
        _prepare(module)


def _prepare(module: ModuleType) -> None:
    table = getattr(module, TABLES[module.__name__])
    table._extra_content = _AskedContent(table._extra_content)


def _register() -> None:
    # A second question during the import finds the module in sys.modules and goes on.
    if f"{__package__}.modeling" not in sys.modules:
        importlib.import_module(f"{__package__}.modeling")


def prepare_auto_classes() -> None:
    """Make the Auto classes register composites when they are first asked for one."""
    for name in TABLES:
        if name in sys.modules:
            _prepare(sys.modules[name])
    if not all(name in sys.modules for name in TABLES):
        sys.meta_path.insert(0, _Waiting())
