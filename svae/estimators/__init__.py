"""The faces of the package: `SVAE` with networks, `SVI` without."""

from svae.estimators.loading import load
from svae.estimators.svae import SVAE
from svae.estimators.svi import SVI

__all__ = ["SVAE", "SVI", "load"]
