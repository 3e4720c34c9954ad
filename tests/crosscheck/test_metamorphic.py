"""Relations hold of right implementations, and mistakes break them, without a truth."""

import numpy as np
import pytest

from svae.crosscheck import cases, metamorphic, museum, ours
from svae.crosscheck.museum import gallery

CHAINS = (
    *("gaussian-chain-small", "gaussian-chain-dense-nodes", "gaussian-chain-ragged"),
    *("gaussian-chain-one-step", "markov-chain-small", "markov-chain-ragged"),
    *("markov-chain-per-step", "markov-chain-spread-1000", "viterbi-ragged"),
)
STANDARD = ("lds-small", "lds-inputs", "lds-missing-steps", "hmm-small", "hmm-ragged")


def wrong_in(found):
    """Return the relations that some quantity breaks."""
    return {name for name, scores in found.items() if not all(s.right for s in scores)}


def asked(case, name=None):
    """Ask the definition or the textbook, perhaps with a mistake in place."""
    right = gallery.RIGHT[case.kind]

    def answer(inputs):
        if name is None:
            return right(inputs, False)
        with gallery.in_place(museum.MISTAKES[name]), np.errstate(all="ignore"):
            return right(inputs, False)

    return metamorphic.check(case, answer)


@pytest.mark.parametrize("name", CHAINS)
def test_relations_hold_of_the_kernels(name):
    case = cases.load(name)
    values = {
        "gaussian_chain": lambda inputs: gallery.RIGHT["gaussian_chain"](inputs, False)
    }
    answer = values.get(case.kind, getattr(ours, case.kind))
    found = metamorphic.check(case, answer)
    assert len(found) > 1 and all(found.values())
    assert wrong_in(found) == set()


@pytest.mark.parametrize("name", STANDARD)
def test_relations_hold_of_textbooks(name):
    found = asked(cases.load(name))
    assert len(found) > 1 and all(found.values())
    assert wrong_in(found) == set()


@pytest.mark.parametrize(
    ("case", "mistake", "relation"),
    [
        ("lds-small", "diagonal-boost", "units"),
        ("gaussian-chain-small", "precision-jitter", "units"),
        ("gaussian-chain-small", "sampler-jitter", "units"),
        ("lds-small", "missing-as-zero", "unobserved end"),
        ("lds-small", "constant-of-missing-entries", "unobserved end"),
        ("markov-chain-small", "viterbi-without-start", "reversed"),
        ("gaussian-chain-small", "missing-two-pi", None),
    ],
)
def test_mistakes_break_relations(case, mistake, relation):
    broken = wrong_in(asked(cases.load(case), mistake))
    assert broken == set() if relation is None else relation in broken


def test_every_relation_applies_to_some_case():
    names = {
        name for case in map(cases.load, (*CHAINS, *STANDARD)) for name in asked(case)
    }
    assert names == {relation.name for relation in metamorphic.RELATIONS}
