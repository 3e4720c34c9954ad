"""The command line: `svae fit`, and what one asks of a run."""
