"""Build the library that lends the chains to JAX, against the headers of that JAX.

::

    python -m svae.interop.build_jax

It takes JAX, a C++17 compiler ($CXX, by default the one that Python was built with or
c++) and some seconds. The library calls the installed core, so it has no kernels of its
own, and need not be built again for another instruction set. The package's own build
does the same where JAX can be imported, which is `pip install --no-build-isolation`.
"""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

__all__ = ["LIBRARY", "build"]

ROOM = Path(__file__).resolve().parent
LIBRARY = ROOM / "_jax.so"


def build(target: Path = LIBRARY) -> Path:
    """Compile the library and return where it is.

    Parameters
    ----------
    target : Path
        The file to write; one that is there is replaced, whoever has it loaded.

    Raises
    ------
    ModuleNotFoundError
        If JAX is not installed.
    RuntimeError
        If there is no compiler, or if it fails; it says why on the error stream.
    """
    from jax import ffi  # the build of the package, without JAX, reads this module

    compiler = _compiler()
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / target.name
        options = ["-std=c++17", "-O2", "-DNDEBUG", "-fPIC", "-fvisibility=hidden"]
        include = ["-isystem", ffi.include_dir()]
        source = str(ROOM / "native" / "jax.cpp")
        command = [*compiler, *options, "-shared", *include, source, "-o", str(made)]
        if subprocess.run(command).returncode:
            raise RuntimeError(f"the compiler has failed: {shlex.join(command)}")
        made.replace(target)
    return target


def _compiler() -> list[str]:
    """Return the words of the first compiler that is there."""
    of_python = (sysconfig.get_config_var("CXX") or "").partition(" ")[0]
    named = os.environ.get("CXX")
    for words in (named, of_python, "c++", "g++", "clang++"):
        command = shlex.split(words or "")
        if command and shutil.which(command[0]):
            return command
        if command and words == named:
            raise RuntimeError(f"CXX={named}: there is no such compiler")
    raise RuntimeError(
        "no C++ compiler was found: of Debian or Ubuntu install the package g++, on "
        "macOS what `xcode-select --install` installs, or name one by CXX"
    )


if __name__ == "__main__":
    try:
        print(build())
    except (ImportError, OSError, RuntimeError) as failure:
        sys.exit(f"svae.interop.build_jax: {failure}")
