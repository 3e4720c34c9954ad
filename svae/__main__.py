"""The command ``svae``, or ``python -m svae``."""

import os
import sys
import warnings
from collections.abc import Sequence

from svae.cli.output import say_warning
from svae.cli.parser import parse

__all__ = ["main"]

ERRORS = (ValueError, OSError, FloatingPointError, MemoryError, ImportError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status: 0, 1 for an error, 130 if interrupted.

    Raises
    ------
    SystemExit
        With status 2 for wrong usage, with 0 after ``--help``.
    """
    options = parse(arguments)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = say_warning
            status = int(options.command(options))
            sys.stdout.flush()
            return status
    except KeyboardInterrupt:
        print("svae: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever reads, such as head, has seen enough
        # Python writes what is left when it ends, and would fail once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ERRORS as error:
        message = " ".join(str(error).split()) or "the memory does not suffice"
        print(f"svae: error: {message}", file=sys.stderr)
        return 1
    finally:
        # An interrupt that passed through an exec (of a class whose module was being
        # imported, say) leaves a mark for which Python ends as if nobody had caught it;
        # the next exec takes the mark away.
        exec("")


if __name__ == "__main__":
    sys.exit(main())
