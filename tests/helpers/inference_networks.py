"""Linear-Gaussian problems of structured inference networks, and their exact laws."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

import svae
from svae import GMM, HMM, LDS
from svae import data as data_
from svae.autodiff.trees import to_vector
from svae.data.masks import valid_steps
from svae.families import dirichlet, niw, product
from svae.families.arrays import free_root
from svae.networks import recognize
from svae.objective.batch import Batch
from svae.objective.local import local_terms
from svae.testing import (
    enumerated,
)
from tests.helpers.exact import (
    concentrated,
    estimator,
    log_evidence,
    quadrature,
    world,
)
from tests.helpers.problems import (
    quadrature_by_step,
    shifted,
)

NAMES = ("gmm", "hmm", "lds", "affine-lds")


LINEAR = ("gmm", "hmm", "lds")


class World(NamedTuple):
    """A linear-Gaussian model with a structured inference network."""

    model: Any
    stats: Any
    theta: Any
    parameters: Any

    def bounds(self, frames, stats=None):
        """E log p(y|x) - KL of every sequence, or of every row, by quadrature."""
        batch = Batch.of(data_.batch([frames], self.cut(frames)))
        shape = batch.values.shape[:2]
        mixture = hasattr(self.model.latent, "num_states")
        noise = quadrature_by_step(*shape) if mixture else quadrature(*shape, 2)
        stats = self.stats if stats is None else stats
        terms, local = local_terms(
            self.model,
            stats,
            self.parameters.encoder,
            self.parameters.decoder,
            batch,
            noise,
        )
        return terms - local.kl

    def cut(self, frames):
        steps = 1 if self.model.latent.independent else len(frames)
        return data_.windows([frames], steps)

    def evidence(self, frames):
        """Log p(y | theta)."""
        return log_evidence(self.theta, self.parameters.decoder, frames)

    def fitted(self):
        """Return the model as an SVAE would have it after `fit`."""
        return estimator(self.model, self.parameters)


def known_world(name, count=1e12):
    """A theta, and the graph and the network whose q is the exact posterior.

    ``count`` is what q(theta) has seen of everything.
    """
    this = world(name)
    coordinates = {
        factor: dirichlet.to_free(dirichlet.stats(draw))
        if factor in ("weights", "transitions")
        else niw.to_free(niw.stats(draw))
        for factor, draw in this.theta.items()
        if factor != "dynamics"
    }
    if "dynamics" in this.theta:
        A, precision = this.theta["dynamics"]
        # nothing beside the precision of A x: e^-60
        coordinates["dynamics"] = (
            A,
            free_root(precision),
            -30.0 * np.eye(2),
            np.array(0.0),
        )
    encoder = {"network": this.parameters.encoder, "graph": coordinates}
    parameters = this.parameters._replace(
        natparams=concentrated(this.theta, count), encoder=encoder
    )
    model = this.model._replace(inference="sin")
    return World(model, this.stats, this.theta, parameters)


def disturbed(this, rng, size=0.2):
    """Return the world with another network and another graph."""
    encoder = this.parameters.encoder
    moved = shifted(encoder, size * rng.standard_normal(to_vector(encoder).size))
    return this._replace(parameters=this.parameters._replace(encoder=moved))


def with_gap(batch):
    """Hide some entries and some frames of a batch."""
    observed = np.ones(batch.values.shape, dtype=bool)
    observed[0, 0], observed[1, :, 0], observed[3, -1:] = False, False, False
    if batch.lengths is not None:  # as `data.batch` has it
        observed &= valid_steps(batch.lengths, observed)[..., None]
    return replace(batch, observed=observed)


def laws_of_batch(model, parameters, batch):
    """Enumerate q of every sequence of a batch."""
    message = product.expected_stats(model.latent.family, parameters.natparams)
    graph = product.from_free(model.latent.family, parameters.encoder["graph"])
    network = parameters.encoder["network"]
    node = recognize(
        model.encoder, network, batch.values, batch.shown_entries, model.fill
    )
    known = batch.lengths, batch.observed_frames, batch.belief
    return enumerated(model.latent, graph, message, node, *known)


def is_told(law):
    """Whether there are data of any step."""
    return law.observed is None or law.observed.any()


SMALL = svae.MLP((6,))


LATENTS = {
    "gmm": lambda: GMM(3, 2),
    "hmm": lambda: HMM(3, 2),
    "lds": lambda: LDS(2),
    "affine-lds": lambda: LDS(2, affine=True),
}


def network(name, **options):
    """Return an SVAE to be fitted."""
    options = {"likelihood": "gaussian", "inference": "sin"} | options
    return svae.SVAE(LATENTS[name](), SMALL, SMALL, **options)
