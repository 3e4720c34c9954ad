"""The command `svae`, or `python -m svae`."""

import sys

from svae.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
