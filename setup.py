"""Build the extension modules through CMake; all else stands in pyproject.toml."""

import atexit
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

ROOT = Path(__file__).resolve().parent


class FreshBuild(build):
    """A build in a new folder, which goes when the process does.

    What an earlier build left in a folder of the sources names that build's tools and
    Python, and has modules that the sources no longer have.
    """

    def initialize_options(self):
        """Name the new folder where a command line may still name another."""
        super().initialize_options()
        self.build_base = tempfile.mkdtemp(prefix="svae-build-")
        atexit.register(shutil.rmtree, self.build_base, ignore_errors=True)


class CMakeBuild(build_ext):
    """Each extension is a CMake target with its own name.

    ``--build-temp FOLDER`` keeps the objects, for builds while the sources are changed.
    """

    def build_extensions(self):
        """Configure once; build all targets to where setuptools looks for them."""
        import pybind11

        folder = Path(self.build_temp).resolve()
        target = Path(self.get_ext_fullpath(self.extensions[0].name)).resolve()
        configuration = {
            "Python_EXECUTABLE": sys.executable,
            "pybind11_DIR": pybind11.get_cmake_dir(),
            "CMAKE_LIBRARY_OUTPUT_DIRECTORY": target.parent,
            "CMAKE_BUILD_TYPE": "Debug" if self.debug else "Release",
        }
        options = [f"-D{name}={value}" for name, value in configuration.items()]
        options += os.environ.get("CMAKE_ARGS", "").split()
        # --fresh: what a kept folder knows of tools may be of tools that are gone
        cmake("--fresh", "-S", ROOT, "-B", folder, "-G", "Ninja", *options)
        names = [extension.name.rpartition(".")[2] for extension in self.extensions]
        cmake("--build", folder, "--target", *names)
        build_for_jax(target.parent / "interop" / "_jax.so")


def build_for_jax(target):
    """Lend the chains to the JAX that is here; in an isolated build there is none.

    Where this fails `svae.interop.jax` says what to do, to those who import it.
    """
    path = ROOT / "svae" / "interop" / "build_jax.py"
    spec = importlib.util.spec_from_file_location("build_jax", path)
    builder = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(builder)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        builder.build(target)
    except ModuleNotFoundError:
        return
    except Exception as error:
        print(f"no library for JAX: {error}", file=sys.stderr)


def cmake(*arguments):
    """Run CMake, which writes to the standard output as it goes."""
    environment = {"NINJA_STATUS": "[%f of %t, %e s] ", **os.environ}
    try:
        subprocess.run(["cmake", *arguments], check=True, env=environment)
    except subprocess.CalledProcessError as error:
        raise CompileError(
            "CMake has failed, and says why above. To build svae takes a C++17 "
            "compiler: of Debian or Ubuntu the packages g++ and python3-dev, on macOS "
            "what `xcode-select --install` installs"
        ) from error


setup(
    ext_modules=[Extension("svae._core", []), Extension("svae._lapack", [])],
    cmdclass={"build": FreshBuild, "build_ext": CMakeBuild},
)
