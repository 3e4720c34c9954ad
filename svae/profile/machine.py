"""What figures depend on, and are labelled by: the machine and its software."""

import os
import platform
from pathlib import Path

from svae import kernels, store
from svae.profile.blas import blas_label
from svae.profile.clock import usable_cpus

__all__ = ["ENVIRONMENT", "environment", "environment_lines"]

CORETYPE = "OPENBLAS_CORETYPE"
ENVIRONMENT = (
    *("cpu", "cpus", "load", "instructions", "blas", CORETYPE, "system"),
    *("svae", "numpy", "scipy", "autograd", "python"),
)
"""What `environment` says."""


def environment() -> dict[str, str]:
    """Return CPU and its load, instructions, BLAS and its kernels, versions."""
    return {
        "cpu": _cpu(),
        "cpus": str(len(usable_cpus()) or os.cpu_count()),
        "load": f"{os.getloadavg()[0]:.1f}",
        "instructions": kernels.isa(),
        "blas": blas_label(),
        CORETYPE: os.environ.get(CORETYPE) or "unset",
        "system": platform.platform(),
        **store.versions(),
    }


def environment_lines(env: dict[str, str]) -> list[str]:
    """Put an environment in words, for the head of a table."""
    packages = ", ".join(f"{x} {env[x]}" for x in ("svae", "numpy", "scipy", "python"))
    return [
        f"{env['cpu']}, {env['cpus']} CPUs, {env['instructions']}; "
        f"load before: {env['load']}",
        packages,
        f"BLAS: {env['blas']}, {CORETYPE} {env[CORETYPE]}",
    ]


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
