"""Finding implementations: every module of a folder, and packages that announce themselves.

An engine, store or workload is a class with a ``name`` in one file or package of its folder, whose name has no
underscore in front; no list is kept anywhere. Somebody else's package joins through an entry point of the group
``ttft.<folder>``.
"""

import importlib
import inspect
import pkgutil
from importlib.metadata import entry_points
from types import ModuleType
from typing import Generic, TypeVar

from harness.core.errors import SetupError, known

T = TypeVar("T")


class Registry(Generic[T]):
    """The implementations of ``base`` in ``package``, by name. Modules load only when asked for."""

    def __init__(self, kind: str, package: str, base: type[T]) -> None:
        self.kind = kind
        self._package = package
        self._base = base

    def _modules(self) -> list[str]:
        package = importlib.import_module(self._package)
        return [module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_")]

    def _from(self, module: ModuleType, abstract: bool = False) -> list[type[T]]:
        return [
            member
            for _, member in inspect.getmembers(module, inspect.isclass)
            if issubclass(member, self._base)
            and f"{member.__module__}.".startswith(f"{module.__name__}.")
            and inspect.isabstract(member) is abstract
            and member.__dict__.get("name")
        ]

    def all(self) -> dict[str, type[T]]:
        """Every implementation by its name, ours and those of installed packages."""
        found = self._ours()
        group = "ttft." + self._package.rpartition(".")[2]
        for point in entry_points(group=group):
            try:
                found.setdefault(point.name, point.load())
            except (ImportError, AttributeError) as error:
                raise SetupError(f"the {self.kind} '{point.name}' of package {point.value} does not import: {error}") from error
        return found

    def _ours(self) -> dict[str, type[T]]:
        found: dict[str, type[T]] = {}
        for name in self._modules():
            for member in self._from(importlib.import_module(f"{self._package}.{name}")):
                found[member.name] = member  # type: ignore[attr-defined]
        return found

    def _unfinished(self) -> dict[str, type[T]]:
        """Classes with a name that lack methods of the contract."""
        modules = [importlib.import_module(f"{self._package}.{name}") for name in self._modules()]
        return {member.name: member for module in modules for member in self._from(module, abstract=True)}  # type: ignore[attr-defined]

    def get(self, name: str) -> type[T]:
        """The implementation called ``name``. Raises UsageError with the known names, SetupError for one that is unfinished."""
        found = self._ours()  # asked first: looking through all installed packages takes tens of milliseconds
        if name not in found:
            found = self.all()
        if name not in found and (half := self._unfinished().get(name)):
            lacking = ", ".join(sorted(half.__abstractmethods__))  # type: ignore[attr-defined]
            contract = f"{self._base.__module__} says what each has to do"
            raise SetupError(f"the {self.kind} '{name}' in {half.__module__} lacks {lacking}; {contract}")
        if name not in found:
            raise known(self.kind, name, list(found))
        return found[name]
