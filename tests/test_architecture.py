"""The shape of the tree: imports go one way, vLLM and torch stay where they belong, files stay small."""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

LAYERS: tuple[tuple[str, ...], ...] = (
    ("core",),
    ("workloads", "stats", "results"),
    ("replay",),
    ("stores", "gate"),
    ("engines",),
    ("connector", "testing"),
    ("experiment",),
    ("reporting",),
    ("report",),
    ("commands",),
    ("cli",),
    ("__main__",),
)
"""From the bottom to the top. A room imports from lower layers and from itself, never from beside or above."""

ALLOWED: Mapping[str, tuple[str, ...]] = {
    "vllm": ("connector", "replay"),
    "torch": ("engines", "connector", "replay", "testing"),
}
"""Which units may import a heavy package, anywhere in a file."""

LONGEST_FILE = 300


@dataclass(frozen=True)
class Import:
    """One imported name. ``lazy``: inside a function, or for type checkers only, so it runs later or never."""

    module: str
    target: str
    lazy: bool


def sources() -> dict[str, str]:
    """Text of each module of the product, by its dotted name."""
    files = [ROOT / "cli.py", *sorted((ROOT / "harness").rglob("*.py"))]
    return {name_of(file): file.read_text(encoding="utf-8") for file in files}


def name_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def unit_of(module: str) -> str:
    """The part of the tree that a layer names: ``harness.stores.files.disk`` -> ``stores``; the bare package has none."""
    return module if module == "cli" else module.partition(".")[2].partition(".")[0]


def parsed(text: str) -> ast.Module:
    """Once more where CPython 3.11 miscounts its own recursion, as it may after a KeyboardInterrupt in an earlier test."""
    try:
        return ast.parse(text)
    except SystemError:
        return ast.parse(text)


def imports_of(module: str, text: str, known: Mapping[str, str]) -> Iterator[Import]:
    """Every import of a module; ``from package import name`` means the module ``package.name`` where there is one."""

    def walk(node: ast.AST, lazy: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from (Import(module, alias.name, lazy) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = child.module or ""
                if child.level:
                    raise AssertionError(f"{module} imports relatively; write the whole name, as the others do")
                for alias in child.names:
                    full = f"{base}.{alias.name}"
                    yield Import(module, full if full in known else base, lazy)
            else:
                later = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or is_type_checking(child)
                yield from walk(child, lazy or later)

    yield from walk(parsed(text), lazy=False)


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def all_imports(modules: Mapping[str, str]) -> list[Import]:
    return [item for module, text in modules.items() for item in imports_of(module, text, modules)]


def homeless(modules: Mapping[str, str]) -> list[str]:
    """Units that no layer names."""
    placed = {unit for layer in LAYERS for unit in layer}
    return sorted({unit_of(module) for module in modules} - placed - {""})


def against_the_order(modules: Mapping[str, str]) -> list[str]:
    """Imports that go beside or up; lazy ones count as well."""
    height = {unit: level for level, layer in enumerate(LAYERS) for unit in layer}
    wrong = []
    for item in all_imports(modules):
        if item.target != "cli" and not item.target.startswith("harness."):
            continue
        here, there = unit_of(item.module), unit_of(item.target)
        if here != there and height.get(there, -1) >= height.get(here, len(LAYERS)):
            wrong.append(f"{item.module} imports {item.target}")
    return wrong


def out_of_bounds(modules: Mapping[str, str]) -> list[str]:
    """Imports of heavy packages outside the units that may have them."""
    return [
        f"{item.module} imports {item.target}"
        for item in all_imports(modules)
        if unit_of(item.module) not in ALLOWED.get(item.target.partition(".")[0], (unit_of(item.module),))
    ]


def cycle(modules: Mapping[str, str]) -> list[str]:
    """The modules of one import cycle, or nothing. Lazy imports do not close one."""
    edges: dict[str, list[str]] = {module: [] for module in modules}
    for item in all_imports(modules):
        if item.target in modules and not item.lazy and item.target != item.module:
            edges[item.module].append(item.target)
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> list[str]:
        if module in path:
            return path[path.index(module) :]
        if module in done:
            return []
        for target in edges[module]:
            if found := visit(target, [*path, module]):
                return found
        done.add(module)
        return []

    return next((found for module in edges if (found := visit(module, []))), [])


def test_every_module_has_a_layer() -> None:
    unplaced = homeless(sources())
    assert not unplaced, f"harness/{unplaced[0]} has no layer yet: add '{unplaced[0]}' to LAYERS in {Path(__file__).name}"


def test_imports_go_one_way() -> None:
    assert against_the_order(sources()) == []


def test_no_import_cycles() -> None:
    assert cycle(sources()) == []


def test_only_the_edges_import_vllm_and_torch() -> None:
    assert out_of_bounds(sources()) == []


def test_no_drawer_for_odds_and_ends() -> None:
    names = {file.name for folder in ("harness", "tests") for file in (ROOT / folder).rglob("*.py")}
    assert names.isdisjoint({"utils.py", "util.py", "helpers.py", "common.py", "misc.py"})


def test_files_stay_small() -> None:
    folders = ("harness", "tests", "scripts", "benchmarks", "examples")
    files = [ROOT / "cli.py", *(file for folder in folders for file in (ROOT / folder).rglob("*.py"))]
    lengths = {str(file.relative_to(ROOT)): len(file.read_text(encoding="utf-8").splitlines()) for file in files}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FILE} == {}


# The checks themselves must bite: each is shown a tree that breaks its rule.


def test_a_module_without_a_layer_is_found() -> None:
    assert homeless({"harness": "", "harness.core.chunks": "", "harness.gadgets.one": ""}) == ["gadgets"]


@pytest.mark.parametrize(
    "source",
    [
        "from harness.engines import ENGINES",
        "import harness.engines",
        "from harness import engines",
        "def late():\n    from harness.engines.base import Engine",
        "import cli",
    ],
)
def test_an_import_against_the_order_is_found(source: str) -> None:
    modules = {"harness": "", "harness.engines": "", "harness.engines.base": "", "harness.core.chunks": source, "cli": ""}
    assert len(against_the_order(modules)) == 1


def test_an_import_from_beside_is_found() -> None:
    assert against_the_order({"harness.stores.files.disk": "from harness.gate import judge"}) == [
        "harness.stores.files.disk imports harness.gate"
    ]


def test_an_import_down_or_at_home_is_fine() -> None:
    modules = {
        "harness": "",
        "harness.core.chunks": "",
        "harness.stores.base": "from harness.core.chunks import chain",
        "harness.stores.files.disk": "from harness.stores.base import Store",
    }
    assert against_the_order(modules) == []


@pytest.mark.parametrize("source", ["import torch", "from torch.nn import Linear", "def late():\n    import torch.cuda"])
def test_a_heavy_import_in_the_wrong_place_is_found(source: str) -> None:
    assert out_of_bounds({"harness.stores.files.disk": source}) != []
    assert out_of_bounds({"harness.engines.one": source}) == []


def test_a_cycle_is_found_unless_it_is_lazy() -> None:
    modules = {"harness.a": "import harness.b", "harness.b": "import harness.c", "harness.c": "import harness.a"}
    assert sorted(cycle(modules)) == ["harness.a", "harness.b", "harness.c"]
    assert cycle({**modules, "harness.c": "def late():\n    import harness.a"}) == []
