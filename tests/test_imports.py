"""Imports run one way through the rooms, and optional packages stay optional."""

import ast
import pydoc

import pytest

import svae
from svae.testing.rooms import (
    FLOORS,
    PACKAGE,
    arrows,
    imported_names,
    modules,
    plan,
    room_of,
)

OPTIONAL = {"matplotlib", "tqdm", "h5py", "dask", "threadpoolctl", "mpmath", "pytest"}
GROUND = [path for path in modules() if room_of(path) in FLOORS[0]]
each_module = pytest.mark.parametrize(
    "path", modules(), ids=lambda path: path.relative_to(PACKAGE).as_posix()
)


def test_every_room_has_a_place_in_the_plan():
    rooms = {room_of(path) for path in modules()}
    assert rooms | {"_core", "_lapack"} == set().union(*FLOORS)


def test_imports_run_down():
    wrong = [
        f"{arrow.module} imports {arrow.imported}"
        for arrow in arrows()
        if not arrow.runs_down
    ]
    assert not wrong


@pytest.mark.parametrize("path", GROUND, ids=lambda path: path.stem)
def test_the_ground_differentiates_nothing(path):
    names = imported_names(ast.walk(ast.parse(path.read_text())))
    assert "autograd" not in {name.split(".")[0] for name in names}


def test_only_the_kernels_import_the_compiled_core():
    of_core = {arrow.importer for arrow in arrows() if arrow.imported == "_core"}
    assert of_core == {"kernels"}


def test_the_plan_can_be_read():
    first, *floors = plan().splitlines()
    assert first.endswith(" 0 that run up")
    assert len(floors) == len({room_of(path) for path in modules()})


def test_the_plan_shows_an_arrow_that_runs_up(tmp_path):
    package = tmp_path / "svae"
    (package / "families").mkdir(parents=True)
    (package / "families" / "wrong.py").write_text("from svae.training import step\n")
    (arrow,) = arrows(package)
    assert arrow == ("families", "training", "families/wrong.py")
    assert not arrow.runs_down


@each_module
def test_imports_are_absolute(path):
    tree = ast.parse(path.read_text())
    assert not any(isinstance(n, ast.ImportFrom) and n.level for n in ast.walk(tree))


@each_module
def test_optional_packages_are_imported_where_they_are_used(path):
    names = imported_names(ast.parse(path.read_text()).body)
    assert OPTIONAL.isdisjoint(name.split(".")[0] for name in names)


def test_importing_the_package_imports_no_optional_package(run_python):
    code = f"import sys, svae; print({OPTIONAL!r} & set(sys.modules))"
    done = run_python(code)
    assert done.stdout.strip() == "set()", done.stderr


def test_what_tests_need_is_not_imported_with_the_package(run_python):
    done = run_python("import sys, svae; print('svae.testing' in sys.modules)")
    assert done.stdout.strip() == "False", done.stderr


def test_what_tests_need_imports_no_optional_package(run_python):
    code = f"import sys, svae.testing; print({OPTIONAL!r} & set(sys.modules))"
    done = run_python(code)
    assert done.stdout.strip() == "set()", done.stderr


def test_importing_the_package_loads_little_of_what_it_needs(run_python):
    """Nothing that takes long and is used rarely, or only once something is fitted."""
    code = (
        "import sys, svae\n"
        "parts = ('scipy.', 'svae.', 'autograd.')\n"
        "print(*(m for m in sys.modules if m.startswith(parts)))"
    )
    done = run_python(code)
    loaded = set(done.stdout.split())
    assert "svae.estimators" in loaded, done.stderr
    slow = {f"scipy.{part}" for part in ("stats", "optimize", "linalg", "special")}
    slow |= {"scipy.cluster", "autograd.scipy"}
    assert not loaded & (slow | {"svae.plot", "svae.profile", "svae.cli"})


def test_what_is_loaded_late_is_there(run_python):
    code = (
        "import svae\n"
        "from svae import plot\n"
        "assert svae.plot is plot and svae.profile.__name__ == 'svae.profile'\n"
        "assert svae.metrics.accuracy([0, 1], [0, 1]) == 1.0\n"
        "assert svae.__version__\n"
        "print(set(svae.__all__) == set(dir(svae)), hasattr(svae, 'nothing'))"
    )
    done = run_python(code)
    assert done.stdout.split() == ["True", "False"], done.stderr


def test_help_shows_the_public_face():
    face = pydoc.render_doc(svae, renderer=pydoc.plaintext)
    _, _, own = face.partition("PACKAGE CONTENTS")
    classes = [name for name in dir(svae) if isinstance(getattr(svae, name), type)]
    assert all(f"class {name}(" in own for name in classes)
    assert not any(name in own for name in ("find_spec", "import_module", "LAZY"))
