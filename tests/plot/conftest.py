"""Small fitted models and data for figures."""

import numpy as np
import pytest

import svae


@pytest.fixture(scope="module")
def points():
    return svae.data.pinwheel(num_per_class=10, rng=0)[0]


@pytest.fixture(scope="module")
def gmm(points):
    model = svae.SVAE(svae.GMM(4, 2), svae.Residual((5,)), svae.Residual((5,)))
    return model.fit(points, num_steps=4, rng=0)


@pytest.fixture(scope="module")
def frames():
    return svae.data.dots(image_width=6, num_frames=60, duration=6, rng=0)


@pytest.fixture(scope="module")
def lds(frames):
    model = svae.SVAE(svae.LDS(3), svae.MLP((5,)), svae.MLP((5,)))
    return model.fit(frames, num_steps=4, window=20, rng=0)


@pytest.fixture(scope="module")
def switching():
    return svae.synthetic.switching_lds(num_blocks=4, block_length=20, rng=0)


@pytest.fixture(scope="module")
def slds(switching):
    latent = svae.SLDS(num_states=3, latent_dim=2, affine=True)
    model = svae.SVAE(latent, svae.MLP((5,)), svae.MLP((5,)))
    return model.fit(switching.frames, num_steps=4, window=20, warmup=4, rng=0)


@pytest.fixture(scope="module")
def hmm(frames):
    model = svae.SVAE(svae.HMM(3, 2), svae.MLP((5,)), svae.MLP((5,)))
    return model.fit(frames, num_steps=4, window=20, warmup=4, rng=0)


@pytest.fixture(scope="module")
def gappy(frames):
    """Frames with whole ones missing, and one channel of others."""
    gappy = frames.copy()
    gappy[5:15] = np.nan
    gappy[20:40, 2] = np.nan
    return gappy


@pytest.fixture(scope="module")
def images():
    """Frames of 3 x 2 pixels, as rows of 6."""
    rng = np.random.default_rng(0)
    return np.repeat([[0.0], [1.0], [4.0]], 20, axis=0) + rng.normal(size=(60, 6))


@pytest.fixture(scope="module")
def clusters(images):
    model = svae.SVAE(svae.GMM(3, 3), svae.MLP((5,)), svae.MLP((5,)))
    return model.fit(images, num_steps=4, rng=0)
