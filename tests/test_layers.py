"""Who imports whom: read from every source file (inside functions too) and held against the one order."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import resnets

SOURCE = Path(resnets.__file__).parent

# DESIGN.md, section 2: a layer imports itself and what stands above it. On the first line, what needs nothing.
ORDER = (
    ("errors", "atomic", "version"),
    ("options",),
    ("arch",),
    ("runtime",),
    ("nn",),
    ("data",),
    ("weights",),
    ("evaluate",),
    ("explain",),
    ("engines",),
    ("retrieve",),
    ("train",),
    ("doctor",),
    ("study",),
    ("serve",),
    ("api",),
    ("cli",),
)
RANK = {layer: rank for rank, layers in enumerate(ORDER) for layer in layers}
FRONT = ("__init__", "__main__")  # they hand names on, and import what they like

HEAVY = {"torch", "numpy", "pydantic", "PIL", "matplotlib", "yaml", "safetensors", "simplejpeg", "rich", "sklearn"}
LIGHT_LAYERS = ("errors", "atomic", "version", "arch", "__init__", "__main__")


class Import(NamedTuple):
    """One imported module: by whom, which names of it, and whether at the top of the file."""

    file: str
    layer: str
    line: int
    module: str
    names: tuple[str, ...]
    top: bool


def read_imports(source: str, file: str) -> Iterator[Import]:
    """Every import of a file; those for type checkers alone count for the layers, but not as made at the top."""
    layer = Path(file).parts[0].removesuffix(".py")
    tree = ast.parse(source)
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for inner in ast.walk(node)
    }
    inside = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        names = tuple(alias.name for alias in node.names)
        modules = list(names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno} imports relatively; write the whole path"
            if node.module != "resnets":
                modules = [node.module or ""]
            else:
                modules, names = [f"resnets.{name}" for name in names], ()
        for module in modules:
            yield Import(file, layer, node.lineno, module, names, id(node) not in inside | typing_only)


IMPORTS = [
    item
    for path in sorted(SOURCE.rglob("*.py"))
    for item in read_imports(path.read_text(encoding="utf-8"), path.relative_to(SOURCE).as_posix())
]


def breaks(item: Import) -> str | None:
    """What is wrong with an import under the order, or `None`."""
    if item.layer in FRONT or item.module.partition(".")[0] != "resnets":
        return None
    layer = item.module.removeprefix("resnets").removeprefix(".").partition(".")[0]
    if layer not in RANK:
        return f"{item.file}:{item.line} imports {item.module}, which no layer holds"
    if RANK[layer] > RANK[item.layer] or (RANK[layer] == RANK[item.layer] and layer != item.layer):
        return f"{item.file}:{item.line} imports {item.module}: {layer} stands below {item.layer}"
    return None


def test_every_file_has_a_layer() -> None:
    assert {item.layer for item in IMPORTS} <= {*RANK, *FRONT}


def test_each_layer_imports_only_what_stands_above_it() -> None:
    wrong = [message for item in IMPORTS if (message := breaks(item))]
    assert not wrong, "\n".join(wrong)


def test_arch_needs_no_torch() -> None:
    wrong = [item for item in IMPORTS if item.layer in LIGHT_LAYERS and item.module.partition(".")[0] in HEAVY]
    assert not wrong


def test_verbs_import_little_at_the_top() -> None:
    """typer, errors, options, arch, declared training options, and each other; all else inside functions."""
    allowed = ("typer", "resnets.errors", "resnets.version", "resnets.options", "resnets.arch", "resnets.cli")
    declared = "resnets.train.config.train_config"  # light, see the test of what is loaded
    wrong = [
        item
        for item in IMPORTS
        if item.layer == "cli"
        and item.top
        and item.module.partition(".")[0] not in sys.stdlib_module_names
        and not item.module.startswith((*allowed, declared))
    ]
    assert not wrong


def import_circles() -> list[set[str]]:
    """Strongly connected components of more than one module, over imports in functions and for type checkers too."""
    modules = {item.file: item.file.removesuffix(".py").replace("/", ".").removesuffix(".__init__") for item in IMPORTS}
    files = {f"resnets.{name}": file for file, name in modules.items()}
    graph: dict[str, set[str]] = {file: set() for file in modules}
    for item in IMPORTS:
        wanted = {files.get(name) for name in (item.module, *(f"{item.module}.{name}" for name in item.names))}
        if item.layer not in FRONT:
            graph[item.file] |= {target for target in wanted if target is not None and target != item.file}
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(file: str) -> None:  # Tarjan's algorithm
        order[file] = low[file] = len(order)
        stack.append(file)
        for target in graph[file]:
            if target not in order:
                visit(target)
                low[file] = min(low[file], low[target])
            elif target in stack:
                low[file] = min(low[file], order[target])
        if low[file] == order[file]:
            circle = set(stack[stack.index(file) :])
            del stack[stack.index(file) :]
            if len(circle) > 1:
                found.append(circle)

    for file in graph:
        if file not in order:
            visit(file)
    return found


# For the lead: once the branch that breaks the circle of weights is merged, WITH_CIRCLES becomes ().
WITH_CIRCLES = ()


def test_no_modules_import_each_other_in_a_circle() -> None:
    circles = [circle for circle in import_circles() if not all(file.startswith(WITH_CIRCLES) for file in circle)]
    assert circles == []


def test_the_graph_of_imports_is_read() -> None:
    """Guards the test above: the graph has the modules and edges that it should have."""
    edges = {(item.file, item.module) for item in IMPORTS}
    assert ("arch/plan.py", "resnets.arch.config") in edges
    assert ("cli/recipes.py", "resnets.train.config.recipes") in edges  # inside a function
    assert any(item.module == "resnets.data" and "random" in item.names for item in IMPORTS)


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("nn/model.py", "from resnets.weights.folder.bundle import Bundle"),
        ("nn/model.py", "def f():\n    import resnets.train.loop.epoch"),
        ("arch/plan.py", "if TYPE_CHECKING:\n    from resnets.nn.model import ResNet"),
        ("errors.py", "from resnets.version import __version__"),
        ("data/files.py", "from resnets import api"),
        ("train/loop/epoch.py", "import resnets.nowhere"),
    ],
)
def test_the_reader_sees_what_is_forbidden(file: str, source: str) -> None:
    assert [item for item in read_imports(source, file) if breaks(item)]


def loaded(*arguments: str) -> set[str]:
    """Heavy packages in `sys.modules` once a fresh Python has run `arguments`."""
    code = f"import sys; sys.argv = {['resnets', *arguments[1:]]!r}\n{arguments[0]}\n"
    code += f"print(*sorted({HEAVY - {'rich'}!r} & set(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


CALL = "from resnets.cli import main; assert main() == 0"


@pytest.mark.parametrize(
    "arguments",
    [
        ("import resnets",),
        ("import resnets; resnets.describe('resnet50'); resnets.Preprocessing; resnets.list_models()",),
        (CALL, "--help"),
        (CALL, "--version"),
        (CALL, "models"),
        (CALL, "models", "--json"),
        (CALL, "info", "resnet50", "--img-size", "352"),
        (CALL, "info", "resnet50", "--num-classes", "10", "--set", "norm=group", "--layers"),
        (CALL, "info", "--help"),
        (CALL, "train", "--help"),
        (CALL, "recipes", "--options"),
    ],
    ids=lambda arguments: " ".join(arguments).replace(f"{CALL} ", "resnets "),
)
def test_what_is_asked_often_loads_nothing_heavy(arguments: tuple[str, ...]) -> None:
    assert loaded(*arguments) == set()
