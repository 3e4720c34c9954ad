"""Two networks of PyTorch around compiled chains: an LDS, and an HMM that hears doubt.

    pip install "svae[torch]"
    python examples/interop_torch.py [NUM_STEPS]

``linear dynamical system`` is the SVAE of Johnson et al. (2016), Fig. 4, with its
parameters by gradient: an encoder gives node potentials, the compiled chain the
posterior, its samples and its log normalizer, and a decoder the likelihood.

``hidden Markov model`` is a structured inference network (Lin et al. 2018).  An encoder
says of every frame where it is in a latent plane and how sure it is of that, as a
Gaussian potential exp<r_t, t(x_t)>; each state k has a Gaussian of the plane; and the
log potentials of the chain are those of frames under states,

    node[t, k] = log of the integral of N(x; mu_k, S_k) exp<r_t, t(x)>.

A frame of which the encoder knows nothing has no say, and its neighbours decide.  Part
of the frames are noise here.  The same model, with an encoder that is as sure of every
frame, is trained beside.
"""

import sys

import numpy as np
import torch
from torch import Tensor, nn

from svae.data.synthetic import dots
from svae.interop.torch import gaussian_chain, markov_chain

LOG_2PI = float(np.log(2 * np.pi))
torch.set_default_dtype(torch.float64)


def network(*sizes: int) -> nn.Sequential:
    """Return an MLP."""
    layers: list[nn.Module] = []
    for before, after in zip(sizes[:-1], sizes[1:], strict=True):
        layers += [nn.Linear(before, after), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def log_density(y: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return log N(y; mean, variance), summed over the last axis."""
    squares = (y - mean) ** 2 * torch.exp(-log_variance)
    return -(squares + log_variance + LOG_2PI).sum(-1) / 2


class LinearDynamics(nn.Module):
    """An SVAE whose latent model is a linear dynamical system."""

    def __init__(self, num_pixels: int, D: int = 4, hidden: int = 40) -> None:
        super().__init__()
        self.encoder = network(num_pixels, hidden, 2 * D)
        self.decoder = network(D, hidden, num_pixels)
        self.log_variance = nn.Parameter(torch.zeros(num_pixels))
        self.A = nn.Parameter(0.9 * torch.eye(D))
        self.log_noise = nn.Parameter(torch.full((D,), -2.0))

    def bound(self, y: Tensor, noise: Tensor) -> Tensor:
        """Return the ELBO of (N, T, P) frames; noise (N, S, T, D) is for samples."""
        N, T, _ = y.shape
        D = len(self.A)
        J, h = self.encoder(y).chunk(2, -1)
        J = -nn.functional.softplus(J) / 2
        precision = torch.exp(-self.log_noise)
        AQ = self.A.T * precision
        init = -torch.eye(D) / 2, torch.zeros(D)
        pair = -AQ @ self.A / 2, AQ, -torch.diag(precision) / 2
        logZ, (_, _, (Exx, Ex)), x = gaussian_chain(init, pair, (J, h), noise)
        of_prior = (T * D * LOG_2PI + (T - 1) * self.log_noise.sum()) / 2
        kl = (J * Exx + h * Ex).sum() - (logZ - of_prior).sum()
        fit = log_density(y[:, None], self.decoder(x), self.log_variance)
        return fit.sum() / noise.shape[1] - kl


class DoubtfulStates(nn.Module):
    """An HMM over a latent plane, and an encoder that may tell how sure it is."""

    def __init__(
        self,
        num_pixels: int,
        K: int = 4,
        D: int = 2,
        hidden: int = 40,
        doubts: bool = True,
    ) -> None:
        super().__init__()
        self.encoder = network(num_pixels, hidden, 2 * D)
        self.decoder = network(D, hidden, 2 * num_pixels)
        self.means = nn.Parameter(torch.randn(K, D))
        self.log_scales = nn.Parameter(torch.zeros(K, D))
        self.stay = nn.Parameter(2.0 * torch.eye(K))
        self.doubts = doubts

    def potentials(self, y: Tensor) -> tuple[Tensor, ...]:
        """Return what frames say, x_t given states, and log potentials of the chain.

        These are precision and h (N, T, D), mean and precision (N, T, K, D) and
        (N, T, K).
        """
        location, log_precision = self.encoder(y).chunk(2, -1)
        if not self.doubts:  # as sure of one as of another
            log_precision = log_precision.mean((0, 1), keepdim=True) + 0 * location
        precision = torch.exp(log_precision.clamp(-8.0, 4.0))
        h = precision * location
        of_states = torch.exp(-self.log_scales)
        both = precision[..., None, :] + of_states
        mean = (h[..., None, :] + of_states * self.means) / both
        gain = both * mean**2 - of_states * self.means**2
        node = (gain - torch.log(both) - self.log_scales).sum(-1) / 2
        return precision, h, mean, both, node

    def chain(self) -> tuple[Tensor, Tensor]:
        """Return log probabilities of the first state and of transitions."""
        K = len(self.stay)
        return torch.full((K,), -np.log(K)), torch.log_softmax(self.stay, -1)

    def bound(self, y: Tensor, noise: Tensor) -> Tensor:
        """Return the ELBO of (N, T, P) frames; noise is (N, T, K, D)."""
        precision, h, mean, both, node = self.potentials(y)
        logZ, (_, _, q) = markov_chain(*self.chain(), node)
        q = q[..., None]
        Ex, Exx = (q * mean).sum(-2), (q * (mean**2 + 1 / both)).sum(-2)
        kl = (h * Ex - precision * Exx / 2).sum() - logZ.sum()
        x = mean + noise / both.sqrt()
        pixels, log_variance = self.decoder(x).chunk(2, -1)
        fit = log_density(y[..., None, :], pixels, log_variance.clamp(-6.0, 6.0))
        return (q[..., 0] * fit).sum() - kl

    def precision(self, y: Tensor) -> np.ndarray:
        """Return how sure the encoder is of frames, (N, T)."""
        with torch.no_grad():
            return self.potentials(y)[0].mean(-1).expand(y.shape[:2]).numpy()


def trained(model, y: Tensor, noise_shape: tuple[int, ...], num_steps: int) -> Tensor:
    """Fit a model to (N, T, P) frames; return the ELBO of a frame at the end."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(num_steps):
        optimizer.zero_grad()
        noise = torch.randn(noise_shape)
        loss = -model.bound(y, noise) / y[..., 0].numel()
        loss.backward()
        optimizer.step()
        if step == 0 or step == num_steps - 1:
            print(f"  step {step + 1}: bound {-loss.item():.3f} a frame")
    return -loss.detach()


def switching_frames(
    rng: np.random.Generator, N: int = 20, T: int = 200, num_pixels: int = 10
) -> tuple[np.ndarray, np.ndarray]:
    """Draw frames of four states, and tell which third of them is noise."""
    z = np.zeros((N, T), int)
    for t in range(1, T):
        moves = rng.random(N) < 0.05
        z[:, t] = np.where(moves, rng.integers(4, size=N), z[:, t - 1])
    centres = np.array([[-2.0, -1.0], [2.0, -1.0], [0.0, 2.0], [0.0, 0.0]])
    x = centres[z] + 0.5 * rng.standard_normal((N, T, 2))
    y = np.tanh(x @ rng.standard_normal((2, num_pixels)))
    is_noise = rng.random((N, T, 1)) < 1 / 3
    y += np.where(is_noise, 3.0, 0.1) * rng.standard_normal(y.shape)
    return y, is_noise[..., 0]


def main() -> None:
    """Train either model."""
    num_steps = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    torch.manual_seed(0)
    print("linear dynamical system")
    frames = dots(image_width=10, num_frames=800).reshape(8, 100, 10)
    y = torch.as_tensor(frames)
    N, T, P = y.shape
    trained(LinearDynamics(P), y, (N, 1, T, 4), num_steps)
    values, is_noise = switching_frames(np.random.default_rng(0))
    y = torch.as_tensor(values)
    for doubts in (True, False):
        torch.manual_seed(0)
        print("hidden Markov model,", "doubts told" if doubts else "no doubts")
        model = DoubtfulStates(y.shape[-1], doubts=doubts)
        trained(model, y, (*is_noise.shape, 4, 2), num_steps)
        sure = model.precision(y)
        print(
            f"  precision {np.median(sure[~is_noise]):.3g} of frames with a signal, "
            f"{np.median(sure[is_noise]):.3g} of noise"
        )


if __name__ == "__main__":
    main()
