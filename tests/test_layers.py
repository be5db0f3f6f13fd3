"""Imports of every source file, also those inside functions, follow the order of the layers."""

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

# A layer imports itself and the layers above it.
ORDER = (
    ("errors", "atomic", "small_files", "version"),
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
FRONT = ("__init__", "__main__")  # these may import every layer

HEAVY = {"torch", "numpy", "pydantic", "PIL", "matplotlib", "yaml", "safetensors", "simplejpeg", "rich", "sklearn"}
LIGHT_LAYERS = ("errors", "atomic", "small_files", "version", "arch", "__init__", "__main__")


class Import(NamedTuple):
    """One imported module: by whom, which names of it, and whether at the top of the file."""

    file: str
    layer: str
    line: int
    module: str
    names: tuple[str, ...]
    top: bool


def read_imports(source: str, file: str) -> Iterator[Import]:
    """All imports of a file; those under TYPE_CHECKING are not `top`."""
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


def violation(item: Import) -> str | None:
    """How an import violates the order of the layers, or `None`."""
    if item.layer in FRONT or item.module.partition(".")[0] != "resnets":
        return None
    layer = item.module.removeprefix("resnets").removeprefix(".").partition(".")[0]
    if layer not in RANK:
        return f"{item.file}:{item.line} imports {item.module}, which is in no layer"
    if RANK[layer] > RANK[item.layer] or (RANK[layer] == RANK[item.layer] and layer != item.layer):
        return f"{item.file}:{item.line} imports {item.module}: {layer} is below {item.layer}"
    return None


def test_every_file_is_in_a_layer() -> None:
    assert {item.layer for item in IMPORTS} <= {*RANK, *FRONT}


def test_layers_import_only_layers_above() -> None:
    wrong = [message for item in IMPORTS if (message := violation(item))]
    assert not wrong, "\n".join(wrong)


def test_light_layers_import_no_heavy_package() -> None:
    wrong = [item for item in IMPORTS if item.layer in LIGHT_LAYERS and item.module.partition(".")[0] in HEAVY]
    assert not wrong


def test_verbs_import_only_light_modules_at_the_top() -> None:
    """Other modules are imported inside the function that needs them."""
    allowed = (
        "typer", "resnets.errors", "resnets.version", "resnets.options", "resnets.arch", "resnets.cli",
        "resnets.runtime.console", "resnets.runtime.failures", "resnets.runtime.formatting",
        "resnets.train.config.train_config",
    )  # fmt: skip
    wrong = [
        item
        for item in IMPORTS
        if item.layer == "cli"
        and item.top
        and item.module.partition(".")[0] not in sys.stdlib_module_names
        and not item.module.startswith(allowed)
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


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert import_circles() == []


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
def test_forbidden_imports_are_found(file: str, source: str) -> None:
    assert [item for item in read_imports(source, file) if violation(item)]


def loaded(*arguments: str) -> set[str]:
    """Heavy packages in `sys.modules` after a new Python process has run `arguments`."""
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
def test_common_commands_import_no_heavy_package(arguments: tuple[str, ...]) -> None:
    assert loaded(*arguments) == set()
