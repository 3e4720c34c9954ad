"""The faces of the package: `SVAE` with networks, `SVI` without."""

from svae.estimators.svae import SVAE, load
from svae.estimators.svi import SVI

__all__ = ["SVAE", "SVI", "load"]
