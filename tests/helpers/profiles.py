"""Small profiles."""

from svae.__main__ import main
from svae.profile import Case

TINY = [
    Case("lds", 2, 3, 7),
    Case("lds", 3, 2, 7, num_samples=2),
    Case("lds", 2, 3, 7, variant="dense nodes"),
    Case("lds", 2, 3, 7, variant="varying pairs"),
    Case("hmm", 3, 2, 7),
    Case("lds filter", 2, 3, 7),
    Case("hmm filter", 3, 2, 7),
    Case("viterbi", 3, 2, 7),
    Case("lds", 2, 3, 7, variant="switching"),
    Case("sampling", 3, 2, 7, num_samples=4),
]


FAST = {"repeats": 1, "budget": 0.0, "memory": False}


def quick(out, *arguments):
    """Run the command on its smallest problems."""
    return main(["profile", "--quick", "--repeats", "1", "--out", str(out), *arguments])
