"""Build the extension modules through CMake; all else stands in pyproject.toml."""

import os
import subprocess
import sys
from pathlib import Path

import pybind11
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent


class CMakeBuild(build_ext):
    """Each extension is a CMake target with its own name."""

    def build_extension(self, ext):
        """Configure, and build the target to where setuptools looks for it."""
        build = Path(self.build_temp).resolve()
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        configuration = {
            "Python_EXECUTABLE": sys.executable,
            "pybind11_DIR": pybind11.get_cmake_dir(),
            "CMAKE_LIBRARY_OUTPUT_DIRECTORY": target.parent,
            "CMAKE_BUILD_TYPE": "Debug" if self.debug else "Release",
        }
        options = [f"-D{name}={value}" for name, value in configuration.items()]
        options += os.environ.get("CMAKE_ARGS", "").split()
        subprocess.run(
            ["cmake", "-S", ROOT, "-B", build, "-G", "Ninja", *options], check=True
        )
        name = ext.name.rpartition(".")[2]
        subprocess.run(["cmake", "--build", build, "--target", name], check=True)


setup(
    ext_modules=[Extension("svae._core", []), Extension("svae._lapack", [])],
    cmdclass={"build_ext": CMakeBuild},
)
