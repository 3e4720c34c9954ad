"""The chains that are timed: their sizes and their stated flops."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

__all__ = ["FLOPS", "KERNELS", "OF_LDS", "SWITCHED_STATES", "Case", "cases", "shorter"]

FLOPS: dict[str, tuple[str, Callable[[int, int], int]]] = {
    "lds": ("7 D^3 + 15 D^2", lambda D, S: 7 * D**3 + 15 * D**2),
    "lds filter": ("13/3 D^3 + 10 D^2", lambda D, S: 13 * D**3 // 3 + 10 * D**2),
    "hmm": ("6 K^2", lambda K, S: 6 * K**2),
    "hmm filter": ("2 K^2", lambda K, S: 2 * K**2),
    "viterbi": ("2 K^2", lambda K, S: 2 * K**2),
    "sampling": ("2 K^2 + 2 K S", lambda K, S: 2 * K**2 + 2 * K * S),
}
"""Floating-point operations of a step of one sequence, stated and not counted: what
filter, smoother and one sample need (lds, with S = 1), two covariances and the next
precision (lds filter), forward, backward and pair counts (hmm), the forward pass (hmm
filter) and S draws (sampling). Exponentials and copies are none.
"""

SIZES = {
    "lds": (2, 4, 10, 20, 32),
    "lds filter": (4, 10),
    "hmm": (2, 10, 30, 100),
    "hmm filter": (10, 30),
    "viterbi": (10, 30),
    "sampling": (10, 30),
}
FEW = (
    *(("lds", D, N) for D in (4, 10) for N in (1, 2)),
    ("lds", 20, 1),
    *(("hmm", K, 1) for K in (10, 30, 100)),
)
"""Sizes and numbers of the sequences of small batches."""
VARIANTS = ("", "dense nodes", "varying pairs", "switching")
SWITCHED_STATES = 10
OF_LDS = ("lds", "lds filter")
KERNELS = {
    "lds": OF_LDS,
    "hmm": tuple(kernel for kernel in FLOPS if kernel not in OF_LDS),
    "all": tuple(FLOPS),
}


@dataclass(frozen=True)
class Case:
    """What is timed: a kernel, and the size of the problem."""

    kernel: str
    size: int
    """Latent dimensions D, or states K."""
    num_sequences: int
    num_timesteps: int
    num_samples: int = 1
    variant: str = ""
    """Of an lds: ``"dense nodes"``, ``"varying pairs"`` or, of an slds with ten states,
    ``"switching"``."""

    def __post_init__(self) -> None:
        """Refuse what there is not."""
        variants = VARIANTS if self.kernel == "lds" else ("",)
        for name, known in (("kernel", tuple(FLOPS)), ("variant", variants)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} {getattr(self, name)!r} is none of {known}")
        least = {"size": 1, "num_sequences": 1, "num_timesteps": 2, "num_samples": 0}
        for name, number in least.items():
            if getattr(self, name) < number:
                value = getattr(self, name)
                raise ValueError(f"{name} is {value}, wanted {number} or more")

    @property
    def num_steps(self) -> int:
        """Steps of all sequences."""
        return self.num_sequences * self.num_timesteps

    @property
    def flops(self) -> int:
        """Stated floating-point operations of one call."""
        return self.num_steps * FLOPS[self.kernel][1](self.size, self.num_samples)

    @property
    def letter(self) -> str:
        """What the size is called."""
        return "D" if self.kernel in OF_LDS else "K"

    @property
    def name(self) -> str:
        """Short label."""
        text = f"{self.kernel} {self.letter}={self.size} {self.variant}".rstrip()
        return f"{text} N={self.num_sequences}"


def cases(
    kernel: str = "all",
    sizes: Sequence[int] | None = None,
    num_sequences: int = 64,
    num_timesteps: int = 1000,
) -> list[Case]:
    """List what `svae.profile.run` times; given sizes leave out variants and few."""

    def make(name: str, size: int, num: int = num_sequences, **words: Any) -> Case:
        return Case(name, size, num, num_timesteps, **words)

    found = []
    for name in KERNELS[kernel]:
        found += [make(name, size) for size in sizes or SIZES[name]]
    if sizes is None:
        found += [make(*few) for few in FEW if few[0] in KERNELS[kernel]]
    if sizes is None and "lds" in KERNELS[kernel]:
        found += [make("lds", 10, variant=v) for v in VARIANTS[1:]]
    return list(dict.fromkeys(found))


def shorter(case: Case, num_timesteps: int) -> Case:
    """Return a case of fewer steps."""
    return replace(case, num_timesteps=min(num_timesteps, case.num_timesteps))
