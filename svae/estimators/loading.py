"""Reading back what was saved, whichever estimator it is."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from svae import store
from svae.data.sources.reference import naming
from svae.estimators import parts as parts_
from svae.estimators import svae, svi

__all__ = ["load"]


def load(
    path: str | Path, parts: Iterable[type] | Mapping[str, type] | None = None
) -> svae.SVAE | svi.SVI:
    """Read a model that `SVAE.save` or `SVI.save` wrote.

    Parameters
    ----------
    path : path
    parts : list of classes, or dict from str to class, optional
        The classes of latent models and networks, or of the model, that are not the
        package's own: ``[MyNetwork]``.  They are found by their qualified names; for a
        class that has another name now, ``{"__main__.MyNetwork": MyNetwork}``.

    Returns
    -------
    SVAE or SVI

    Raises
    ------
    ValueError
        If the file is damaged, holds something else, or has a class that is neither the
        package's own nor among the ``parts``; names the file.
    TypeError
        If ``parts`` are no classes.
    """
    known = parts_.classes(parts)
    tree, meta = store.load(path)
    with naming(str(path)):
        if meta.get("kind") == svi.KIND:
            return svi.SVI.restore(tree, meta, known)
        if meta.get("kind") == svae.KIND:
            return svae.SVAE.restore(tree, meta, known)
        raise ValueError("not a saved model")
