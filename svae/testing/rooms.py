"""The rooms of the package, and which way imports run between them.

A folder of the package is a room, and so is a module beside the folders.  Imports run
down only: a room imports from rooms on lower floors, or from itself.  The plan is read
from the import statements; a name of the package's own face, which imports it when it
is first asked for, counts as an import from the room that has it::

    python -m svae.testing.rooms
"""

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

__all__ = [
    "FLOORS",
    "Arrow",
    "arrows",
    "face",
    "floor_of",
    "modules",
    "plan",
    "room_of",
]

PACKAGE = Path(__file__).parents[1]

FLOORS: tuple[frozenset[str], ...] = tuple(
    map(
        frozenset,
        (
            ("errors", "types", "metrics", "data", "_core", "_lapack"),
            ("reference", "store"),
            ("autodiff",),
            ("kernels",),
            ("families", "standard"),
            ("priors", "likelihoods"),
            ("models",),
            ("networks", "conjugate"),
            ("objective",),
            ("training", "queries"),
            ("estimators", "plot"),
            ("profile", "crosscheck", "interop"),
            ("cli", "testing"),
            ("__main__",),
        ),
    )
)
"""Rooms from the ground up; those on one floor know nothing of each other."""


class Arrow(NamedTuple):
    """An import of one room by another."""

    importer: str
    imported: str
    module: str
    """Path of the importing module, relative to the package."""

    @property
    def runs_down(self) -> bool:
        """Whether the imported room is on a lower floor."""
        return floor_of(self.imported) < floor_of(self.importer)


def modules(package: Path = PACKAGE) -> list[Path]:
    """Return all modules but the package's own face, which imports from everywhere."""
    return sorted(
        path for path in package.rglob("*.py") if path != package / "__init__.py"
    )


def room_of(path: Path, package: Path = PACKAGE) -> str:
    """Return the first name below the package: a folder or a module."""
    return path.relative_to(package).with_suffix("").parts[0]


def floor_of(room: str) -> int:
    """Return the floor of a room, counted from 0.

    Raises
    ------
    KeyError
        If the room has no place in the plan.
    """
    for number, rooms in enumerate(FLOORS):
        if room in rooms:
            return number
    raise KeyError(f"{room} is no room of the plan")


def imported_names(nodes: Sequence[ast.AST] | Iterator[ast.AST]) -> Iterator[str]:
    """Yield full dotted names of all that absolute imports among the nodes import."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def face(package: Path = PACKAGE) -> dict[str, str]:
    """Return the rooms of what the package's own face has, by public name."""
    path = package / "__init__.py"
    tree = ast.parse(path.read_text() if path.exists() else "")
    parts = [name.split(".") for name in imported_names(ast.walk(tree))]
    return {part[-1]: part[1] for part in parts if part[0] == package.name}


def names_used(tree: ast.AST, package: str) -> Iterator[str]:
    """Yield what a module asks the package for, by import or as an attribute of it."""
    parts = [name.split(".") for name in imported_names(ast.walk(tree))]
    yield from (part[1] for part in parts if part[0] == package and part[1:])
    if [package] not in parts:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id == package:
                yield node.attr


def arrows(package: Path = PACKAGE) -> list[Arrow]:
    """Return the imports between rooms, one for each module and imported room."""
    found = []
    public = face(package)
    for path in modules(package):
        own = room_of(path, package)
        used = names_used(ast.parse(path.read_text()), package.name)
        rooms = {public.get(name, name) for name in used} - {"__version__"}
        module = path.relative_to(package).as_posix()
        found += [Arrow(own, room, module) for room in sorted(rooms - {own})]
    return found


def plan(package: Path = PACKAGE) -> str:
    """Return the rooms by floors, from the top down, with what each imports."""
    every = arrows(package)
    rooms = {room_of(path, package) for path in modules(package)}
    lines = [
        f"{len(rooms)} rooms on {len(FLOORS)} floors, "
        f"{len({arrow[:2] for arrow in every})} arrows, "
        f"{sum(not arrow.runs_down for arrow in every)} that run up"
    ]
    for number, floor in reversed(list(enumerate(FLOORS))):
        for room in sorted(floor & rooms):
            below = sorted({to for by, to, _ in every if by == room})
            lines.append(f"{number:3}  {room:11} -> {', '.join(below)}".rstrip(" ->"))
    return "\n".join(lines)


if __name__ == "__main__":
    print(plan())
