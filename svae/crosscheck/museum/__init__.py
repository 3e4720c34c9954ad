"""A museum of mistakes: wrong variants of right functions, each with what kills it.

A *mistake* replaces one function of `svae.reference`, of the families, or of the
textbooks' recursions in `textbook` by a wrong one that somebody has written, and says
who, as far as that is public.  The certified set is good if each mistake is *killed*:
if some case, answered with the mistake in place, is judged wrong.  The share of
mistakes that are killed is the set's mutation score; a survivor is a missing case.

>>> from svae.crosscheck import museum
>>> museum.MISTAKES["transposed-transition"].says
'the transition matrix is transposed'

``python -m svae.crosscheck.museum`` prints the score, and writes docs/museum.md anew.
"""

from svae.crosscheck.museum import (  # noqa: F401  they hang what they hold
    chains,
    latent,
    standard,
)
from svae.crosscheck.museum.gallery import (
    MISTAKES,
    Mistake,
    Mutation,
    answer,
    mutations,
    right_answer,
)

__all__ = [
    "MISTAKES",
    "Mistake",
    "Mutation",
    "answer",
    "mutations",
    "right_answer",
]
