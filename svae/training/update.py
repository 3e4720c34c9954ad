"""From gradients to new parameters: a step of Adam and a natural step."""

from svae.families.product import proper_step
from svae.objective.bound import Gradients
from svae.objective.model import Generative, Parameters
from svae.training.adam import AdamState, adam_step_of_parts
from svae.training.decay import decay
from svae.training.schedules import factor
from svae.training.settings import NETWORKS, Settings

__all__ = ["update"]


def update(
    model: Generative,
    parameters: Parameters,
    adam: AdamState,
    gradients: Gradients,
    settings: Settings,
    step: int = 0,
) -> tuple[Parameters, AdamState, int]:
    """Move the networks by Adam, and q(theta) along its natural gradient.

    Parameters
    ----------
    model : Generative
    parameters : Parameters
    adam : AdamState
        Moments of the gradients of encoder and decoder.
    gradients : Gradients
        Ascent directions, for the whole data; of what is frozen they do not matter.
    settings : Settings
        Of which the rates of networks and of q(theta) count, with their schedules, and
        the decay of weights.
    step : int
        Steps that were taken before.

    Returns
    -------
    parameters : Parameters
    adam : AdamState
    backtracks : int
        Halvings of the natural step, without which q(theta) would have left its domain:
        of the factor and the state that took the most.

    Raises
    ------
    FloatingPointError
        If a gradient is not finite, or no natural step is valid.
    """
    try:
        scale = factor(settings.schedule, step)
        rates = [
            None if name in settings.freeze else scale * rate
            for name, rate in zip(NETWORKS, settings.learning_rates, strict=True)
        ]
        (encoder, decoder), adam = adam_step_of_parts(
            (parameters.encoder, parameters.decoder),
            (gradients.encoder, gradients.decoder),
            adam,
            rates,
        )
    except FloatingPointError as error:
        raise FloatingPointError(
            "the gradient of the networks is not finite"
        ) from error
    if settings.weight_decay:
        of_encoder, of_decoder = (settings.weight_decay * (rate or 0) for rate in rates)
        encoder = decay(model, "encoder", encoder, parameters.encoder, of_encoder)
        decoder = decay(model, "decoder", decoder, parameters.decoder, of_decoder)
    if "latent" in settings.freeze:
        return Parameters(parameters.natparams, encoder, decoder), adam, 0
    natparams, backtracks = proper_step(
        model.latent.family,
        parameters.natparams,
        gradients.natparams,
        settings.natural_step * factor(settings.natural_schedule, step),
    )
    return Parameters(natparams, encoder, decoder), adam, backtracks
