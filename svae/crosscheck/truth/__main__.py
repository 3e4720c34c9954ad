"""``python -m svae.crosscheck.truth``."""

import sys

from svae.crosscheck.truth.make import main

sys.exit(main())
