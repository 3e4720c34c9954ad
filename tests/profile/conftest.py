"""A small report."""

import pytest

from svae import profile
from tests.helpers.profiles import FAST, TINY


@pytest.fixture(scope="module")
def report():
    return profile.run(TINY, threads=[2], **FAST)
