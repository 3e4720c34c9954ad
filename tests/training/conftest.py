"""Fits that were not stopped."""

import pytest

from tests.helpers.fits import JOBS, run


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """Make the folders of fits that were not stopped."""
    folder = tmp_path_factory.mktemp("whole")
    for name in JOBS:
        run(name, folder / name, resume=False)
    return folder
