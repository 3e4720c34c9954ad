"""The face of `svae.testing`: what it promises, and that its examples run."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

from svae import testing

MODULES = ["svae.testing"] + [
    f"svae.testing.{module.name}" for module in pkgutil.iter_modules(testing.__path__)
]


@pytest.mark.parametrize("name", testing.__all__)
def test_every_name_is_documented_with_its_arguments(name):
    thing = getattr(testing, name)
    text = inspect.getdoc(thing)
    assert text
    if inspect.isfunction(thing) and len(inspect.signature(thing).parameters) > 2:
        assert "Parameters\n---" in text or "arguments as of `" in text


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    pytest.importorskip("resource" if name.endswith("survey") else "mpmath")
    results = doctest.testmod(importlib.import_module(name))
    assert results.failed == 0
