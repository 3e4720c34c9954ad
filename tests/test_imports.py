"""Imports run one way through the package, and optional packages stay optional."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "svae"

# A module imports only from rooms below its own, or from its own room.
ROOMS = (
    {
        "errors",
        "outputs",
        "trees",
        "vjp",
        "synthetic",
        "drawing",
        "versions",
        "blas",
        "params",
        "sources",
        "segments",
        "config",
        "lock",
    },
    {"primitives", "progress"},
    {"arguments"},
    {"reference", "data", "metrics", "store", "drawing"},
    {"_core", "_lapack", "diagnostics"},
    {"kernels", "visible"},
    {"layers", "optim"},
    {"networks"},
    {"families"},
    {"models"},
    {"weights", "conjugate", "parts"},
    {"observed"},
    {"generative"},
    {"objective"},
    {"trailing"},
    {"generate"},
    {"evaluate"},
    {"importance"},
    {"batches"},
    {"workers"},
    {"fit"},
    {"warmup", "svi"},
    {"training"},
    {"checkpoint"},
    {"estimator"},
    {"gallery"},
    {"plot", "crosscheck", "selfcheck", "runs"},
    {"profile"},
    {"__main__"},
)
LEAVES = {"reference", "data", "metrics", "store"}
OPTIONAL = {"matplotlib", "tqdm", "h5py", "dask", "threadpoolctl"}
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}
MODULES = sorted(
    path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py"
)
each_module = pytest.mark.parametrize(
    "path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix()
)


def room_of(path):
    """Return the first name below the package: a module or a subpackage."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_names(nodes, path):
    """Yield full dotted names of all that import statements among the nodes import."""
    package = ("svae", *path.relative_to(PACKAGE).parts[:-1])
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            source = ".".join((*above, *filter(None, [node.module])))
            yield from (f"{source}.{alias.name}" for alias in node.names)


def imported_rooms(path):
    """Return the rooms of the package that a module imports, anywhere in its source."""
    names = imported_names(ast.walk(ast.parse(path.read_text())), path)
    parts = [name.split(".") for name in names]
    return {part[1] for part in parts if part[0] == "svae" and len(part) > 1}


@each_module
def test_imports_point_down(path):
    own = room_of(path)
    assert own in LEVEL, f"{own} has no place among the rooms"
    for room in imported_rooms(path) - {own}:
        assert room in LEVEL, f"{own} imports {room}, which is no room of the package"
        assert LEVEL[room] < LEVEL[own], f"{own} imports {room}, which is not below it"


@each_module
def test_leaves_import_no_room(path):
    if room_of(path) in LEAVES:
        assert imported_rooms(path) <= ROOMS[0] | {room_of(path)}


@each_module
def test_only_the_kernels_import_the_compiled_core(path):
    assert room_of(path) == "kernels" or "_core" not in imported_rooms(path)


@each_module
def test_optional_packages_are_imported_where_they_are_used(path):
    top_level = ast.parse(path.read_text()).body
    names = imported_names(top_level, path)
    assert OPTIONAL.isdisjoint(name.split(".")[0] for name in names)


def test_importing_the_package_imports_no_optional_package(run_python):
    code = f"import sys, svae; print({OPTIONAL!r} & set(sys.modules))"
    done = run_python(code)
    assert done.stdout.strip() == "set()", done.stderr
