"""Imports run one way through the rooms, and optional packages stay optional."""

import ast
import pickle
import pydoc
import rlcompleter
import runpy
import sys

import pytest

import svae
from svae.testing.rooms import (
    FLOORS,
    PACKAGE,
    arrows,
    face,
    imported_names,
    modules,
    plan,
    room_of,
)

OPTIONAL = {
    "matplotlib",
    "tqdm",
    "h5py",
    "dask",
    "threadpoolctl",
    "mpmath",
    "flint",
    "pytest",
    "jax",
    "torch",
    "pytensor",
    "pandas",
    "sklearn",
}
TRUTH = PACKAGE / "crosscheck" / "truth"  # a script, which is of no use without flint
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
    allowed = {"flint"} if TRUTH in path.parents else set()
    if room_of(path) == "interop":  # whose modules are each for one of these
        allowed = {"jax", "torch", "pytensor"}
    assert (OPTIONAL - allowed).isdisjoint(name.split(".")[0] for name in names)


def test_nothing_imports_what_derives_certified_values():
    outside = [path for path in modules() if TRUTH not in path.parents]
    for path in outside:
        names = imported_names(ast.walk(ast.parse(path.read_text())))
        assert not any(name.startswith("svae.crosscheck.truth") for name in names)


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


PRINT_LOADED = (
    "import sys\n"
    "parts = ('numpy', 'scipy', 'autograd', 'svae')\n"
    "print(*(m for m in sys.modules if m.partition('.')[0] in parts))"
)


def test_importing_the_package_loads_nothing_else(run_python):
    done = run_python(f"import svae\n{PRINT_LOADED}")
    assert set(done.stdout.split()) == {"svae", "svae._core"}, done.stderr


def test_a_room_loads_what_is_below_it_alone(run_python):
    done = run_python(f"import svae.families.gaussian\n{PRINT_LOADED}")
    rooms = {name.split(".")[1] for name in done.stdout.split() if "svae." in name}
    (floor,) = (n for n, floor in enumerate(FLOORS) if "families" in floor)
    assert "families" in rooms, done.stderr
    assert rooms <= set().union(*FLOORS[: floor + 1])


def test_an_estimator_loads_little_of_what_it_needs(run_python):
    """Nothing that takes long and is used rarely, or only once something is fitted."""
    done = run_python(f"from svae import SVAE\n{PRINT_LOADED}")
    loaded = set(done.stdout.split())
    assert "svae.estimators" in loaded, done.stderr
    slow = {f"scipy.{part}" for part in ("stats", "optimize", "linalg", "special")}
    slow |= {"scipy.cluster", "autograd.scipy"}
    assert not loaded & (slow | {"svae.plot", "svae.profile", "svae.cli"})


def test_what_is_loaded_late_is_there(run_python):
    code = (
        "import svae\n"
        "from svae import *\n"
        "assert svae.plot is plot and svae.profile.__name__ == 'svae.profile'\n"
        "assert svae.metrics.accuracy([0, 1], [0, 1]) == 1.0\n"
        "assert svae.training.__name__ == 'svae.training'\n"
        "assert svae.__version__\n"
        "assert set(svae.__all__) <= set(vars(svae)) & set(globals())\n"
        "print(set(svae.__all__) == set(dir(svae)), hasattr(svae, 'nothing'))"
    )
    done = run_python(code)
    assert done.stdout.split() == ["True", "False"], done.stderr


def test_a_name_that_is_not_there_is_named():
    with pytest.raises(AttributeError, match=r"'svae' has no attribute 'SVEA'"):
        svae.SVEA  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'SVEA' from 'svae'"):
        from svae import SVEA  # noqa: F401


def test_a_missing_core_is_an_error_at_once(monkeypatch):
    monkeypatch.delattr(svae, "_core")
    monkeypatch.setitem(sys.modules, "svae._core", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="the compiled core of svae is missing"):
        runpy.run_path(str(PACKAGE / "__init__.py"))


def test_a_core_that_cannot_be_loaded_says_why(monkeypatch):
    monkeypatch.delattr(svae, "_core")
    monkeypatch.setitem(sys.modules, "svae._core", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    with pytest.raises(ImportError, match="_core"):
        runpy.run_path(str(PACKAGE / "__init__.py"))


def test_the_face_has_the_same_names_for_readers_and_at_run_time():
    public = {name: room for name, room in face().items() if name != "_core"}
    assert set(public) == set(svae.__all__) - {"__version__"}
    elsewhere = {name: room for name, room in public.items() if name != room}
    assert elsewhere == svae._ROOM_OF


def test_a_name_of_the_face_counts_as_an_import(tmp_path):
    package = tmp_path / "svae"
    (package / "families").mkdir(parents=True)
    (package / "__init__.py").write_text("from svae.estimators import SVAE, load\n")
    (package / "families" / "one.py").write_text("from svae import load\n")
    (package / "families" / "two.py").write_text("import svae\nx = svae.SVAE()\n")
    assert [(arrow.module, arrow.imported) for arrow in arrows(package)] == [
        ("families/one.py", "estimators"),
        ("families/two.py", "estimators"),
    ]


def test_public_classes_are_pickled_by_name():
    for name in svae.__all__:
        if isinstance(value := getattr(svae, name), type):
            assert pickle.loads(pickle.dumps(value)) is value


def test_help_shows_the_public_face():
    text = pydoc.render_doc(svae, renderer=pydoc.plaintext)
    description, _, own = text.partition("PACKAGE CONTENTS")
    assert all(f"`{name}`" in description for name in svae.__all__ if name[0] != "_")
    classes = [name for name in dir(svae) if isinstance(getattr(svae, name), type)]
    assert all(f"class {name}(" in own for name in classes)
    assert not any(name in own for name in ("find_spec", "import_module", "_ROOMS"))


def test_names_are_completed():
    complete = rlcompleter.Completer({"svae": svae}).complete
    assert complete("svae.SV", 0) == "svae.SVAE("
    assert complete("svae.trai", 0) is None
