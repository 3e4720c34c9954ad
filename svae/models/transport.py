r"""Normal draws turned into draws of other laws, by their distribution functions.

Samples are functions of normal noise.  Where they need a discrete state too, a normal
draw has room for it: which interval of the states' distribution function it falls into
selects the state, and where in that interval is uniform again, hence another normal
draw.  The radius of a normal vector likewise becomes that of a Student-t.
"""

import numpy as np
import scipy

__all__ = ["inflations", "select", "student"]

TINY, BELOW_ONE = np.finfo(np.float64).tiny, np.nextafter(1.0, 0.0)


def select(probs: np.ndarray, normals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draw states, and what is left of the normal draws that draw them.

    Parameters
    ----------
    probs : (..., K)
    normals : (...)
        Their shape, without K, broadcasts with that of ``probs``.

    Returns
    -------
    states : (...) int64
    normals : (...)
        Standard normal, and independent of the states.
    """
    # either tail is counted from its own end, where its digits are
    upper = normals > 0
    ordered = np.where(upper[..., None], probs[..., ::-1], probs)
    cumulative = np.cumsum(ordered, axis=-1)
    uniforms = scipy.special.ndtr(-np.abs(normals))
    index = np.sum(cumulative <= uniforms[..., None], axis=-1)
    until, share = (
        np.take_along_axis(array, index[..., None], axis=-1)[..., 0]
        for array in (cumulative, ordered)
    )
    within = np.clip((uniforms - (until - share)) / share, TINY, BELOW_ONE)
    rest = scipy.special.ndtri(within)
    last = probs.shape[-1] - 1
    return np.where(upper, last - index, index), np.where(upper, -rest, rest)


def student(normals: np.ndarray, dof: float) -> np.ndarray:
    """Turn normal vectors (..., D) into Student-t vectors with ``dof``.

    Of these the squared radius over D has the law F(D, dof); directions are the same.
    """
    dim = normals.shape[-1]
    squares = np.sum(normals**2, axis=-1, keepdims=True)
    lower, upper = scipy.special.chdtr(dim, squares), scipy.special.chdtrc(dim, squares)
    # from the end of the distribution function where its digits are
    inner = np.sqrt(scipy.special.fdtri(dim, dof, lower))
    outer = 1.0 / np.sqrt(np.maximum(scipy.special.fdtri(dof, dim, upper), TINY))
    scale = np.sqrt(dim / np.where(squares > 0, squares, 1.0))
    return normals * scale * np.where(lower < 0.5, inner, outer)


def inflations(dof: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return covariances of Student-t over their scale matrices.

    And where there is none, at two degrees of freedom or fewer.
    """
    heavy = dof <= 2
    return dof / np.where(heavy, 1.0, dof - 2), heavy
