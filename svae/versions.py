"""Versions of the package, of what it needs, and of Python."""

import platform
from importlib.metadata import version

__all__ = ["versions"]


def versions() -> dict[str, str]:
    """Return the versions of the package, of what it needs, and of Python."""
    names = ("svae", "numpy", "scipy", "autograd")
    return {name: version(name) for name in names} | {
        "python": platform.python_version()
    }
