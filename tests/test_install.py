"""Builds: each in a new folder, and packages that hold what the sources hold.

CMake is a script here, which does what the build asks of it in no time; `.ci/run` does
builds in earnest.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path
from zipfile import ZipFile

import pytest

pytest.importorskip("setuptools", minversion="77")

ROOT = Path(__file__).parents[1]
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")
EXTENSIONS = {f"svae/{name}{SUFFIX}" for name in ("_core", "_lapack")}

# Like CMake it takes no folder that other tools have configured, unless told to forget.
CMAKE = f"""#!{sys.executable}
import json, os, sys
from pathlib import Path

words = sys.argv[1:]
if "--build" in words:
    folder = Path(words[words.index("--build") + 1])
    target = Path((folder / "CMakeCache.txt").read_text())
    target.mkdir(parents=True, exist_ok=True)
    for name in words[words.index("--target") + 1 :]:
        (target / (name + {SUFFIX!r})).write_text(str(folder))
    sys.exit()
folder = Path(words[words.index("-B") + 1])
if "broken" in os.environ.get("CMAKE_ARGS", ""):
    sys.exit("no compiler")
if (folder / "CMakeCache.txt").exists() and "--fresh" not in words:
    sys.exit("the cache names tools that are gone")
folder.mkdir(parents=True, exist_ok=True)
(target,) = (
    word.partition("=")[2] for word in words if "LIBRARY_OUTPUT_DIRECTORY" in word
)
(folder / "CMakeCache.txt").write_text(target)
with open({{log!r}}, "a") as log:
    print(json.dumps([str(folder), words]), file=log)
"""


class Checkout:
    """A copy of the sources, in which builds have only a pretended CMake."""

    def __init__(self, folder):
        self.root, self.tools = folder / "checkout", folder / "tools"
        self.log, self.out = folder / "log", folder / "out"
        ignored = ("*.so", "__pycache__", "*.egg-info", ".*", "build", "dist", "runs")
        shutil.copytree(ROOT, self.root, ignore=shutil.ignore_patterns(*ignored))
        self.write(self.tools / "cmake", CMAKE.format(log=str(self.log)))
        (self.tools / "cmake").chmod(0o755)
        self.write(self.tools / "pybind11.py", "def get_cmake_dir():\n    return '.'\n")
        self.write(self.tools / "jax.py", "raise ModuleNotFoundError('not in a build')")

    def write(self, path, text=""):
        path = self.root / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def build(self, kind, check=True, **environment):
        """Build as pip does, and return the path of what was built."""
        built = f"build_meta.build_{kind}({str(self.out)!r})"
        code = f"from setuptools import build_meta; print({built})"
        path = os.pathsep.join([str(self.tools), os.environ["PATH"]])
        settings = {"PATH": path, "PYTHONPATH": str(self.tools), **environment}
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=self.root,
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
            timeout=120,
        )
        if not check:
            return done
        assert done.returncode == 0, done.stderr
        return self.out / done.stdout.split()[-1]

    def folders(self):
        """Return the folder that each build gave to CMake."""
        return [json.loads(line)[0] for line in self.log.read_text().splitlines()]

    def modules(self):
        """Return the files of the package, which a wheel should have."""
        paths = (self.root / "svae").rglob("*.py*")
        kept = {".py", ".pyi"}
        modules = {path for path in paths if path.suffix in kept}
        cases = (self.root / "svae/crosscheck/certified").glob("*/*")
        native = (self.root / "svae/interop/native").glob("*")
        kept = modules.union(cases, native)
        names = {path.relative_to(self.root).as_posix() for path in kept}
        return names | {"svae/py.typed"}


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


def contents(wheel):
    """Return what a wheel installs, as a dict from names to bytes."""
    with ZipFile(wheel) as file:
        names = (name for name in file.namelist() if ".dist-info/" not in name)
        return {name: file.read(name) for name in names}


def test_a_wheel_holds_what_the_sources_hold_whatever_was_left(checkout):
    tag = f"{sysconfig.get_platform()}-{sys.implementation.cache_tag}"
    checkout.write(f"build/temp.{tag}/CMakeCache.txt", "/gone")
    checkout.write(f"build/lib.{tag}/svae/removed.py")
    checkout.write(f"build/lib.{tag}/svae/_core{SUFFIX}", "old")
    checkout.write(f"build/lib.{tag}/svae/_old{SUFFIX}", "old")
    checkout.write("svae/removed/__pycache__/removed.cpython-310.pyc")
    checkout.write(f"svae/_core{SUFFIX}", "old")
    checkout.write("svae/_core.cpython-310-other.so", "old")
    checkout.write("svae/notes.txt")
    checkout.write("svae.egg-info/SOURCES.txt", "svae/notes.txt\nsvae/removed.py\n")
    held = contents(checkout.build("wheel"))
    assert held.keys() == checkout.modules() | EXTENSIONS
    (folder,) = checkout.folders()
    assert {held[name].decode() for name in EXTENSIONS} == {folder}


def test_every_build_has_a_new_folder_that_goes_with_it(checkout):
    before = {path.name for path in checkout.root.iterdir()}
    for kind in ("wheel", "wheel", "editable", "wheel"):
        checkout.build(kind)
    folders = checkout.folders()
    assert len(set(folders)) == 4
    assert not any(Path(folder).exists() for folder in folders)
    left = {path.name for path in checkout.root.iterdir()} - before
    assert left <= {"svae.egg-info"}


def test_an_editable_build_has_its_extensions_among_the_sources(checkout):
    checkout.build("editable")
    for name in EXTENSIONS:
        assert (checkout.root / name).read_text() == checkout.folders()[0]
    held = contents(checkout.build("wheel"))
    assert {held[name].decode() for name in EXTENSIONS} == {checkout.folders()[1]}


def test_an_archive_of_the_sources_is_enough_to_build_from(checkout, tmp_path):
    checkout.write(f"svae/_core{SUFFIX}", "old")
    checkout.write("runs/a/run.json")
    expected = checkout.modules()
    with tarfile.open(checkout.build("sdist")) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        archive.extractall(tmp_path / "archive", filter="data")
    assert not any(name.endswith((".so", ".pyc")) for name in names)
    assert not any(name.startswith("runs/") for name in names)
    assert "svae/crosscheck/certified/gaussian-chain-small/case.json" in expected
    sources = {"setup.py", "CMakeLists.txt", "csrc/kernels.cpp", "csrc/lanes/pack.hpp"}
    assert sources <= names
    (checkout.root,) = (tmp_path / "archive").iterdir()
    assert contents(checkout.build("wheel")).keys() == expected | EXTENSIONS


def test_a_failure_of_cmake_says_what_a_build_takes(checkout):
    done = checkout.build("wheel", check=False, CMAKE_ARGS="-Dbroken=1")
    assert done.returncode != 0
    assert "no compiler" in done.stderr
    assert "takes a C++17 compiler: of Debian or Ubuntu the packages g++" in done.stderr


COMPILER = f"""#!{sys.executable}
import sys

print("compiled", file=open(sys.argv[sys.argv.index("-o") + 1], "w"))
"""


def test_a_build_beside_jax_has_a_library_for_it(checkout):
    checkout.write(checkout.tools / "jax.py", "class ffi: include_dir = lambda: '.'")
    checkout.write(checkout.tools / "compiler", COMPILER)
    (checkout.tools / "compiler").chmod(0o755)
    held = contents(checkout.build("wheel", CXX="compiler"))
    assert held.pop("svae/interop/_jax.so") == b"compiled\n"
    assert held.keys() == checkout.modules() | EXTENSIONS


def test_a_build_without_a_compiler_for_jax_is_complete_but_for_that(checkout):
    checkout.write(checkout.tools / "jax.py", "class ffi: include_dir = lambda: '.'")
    held = contents(checkout.build("wheel", CXX="nowhere"))
    assert held.keys() == checkout.modules() | EXTENSIONS
