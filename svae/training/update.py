"""From gradients to new parameters: a step of Adam and a natural step."""

from svae.families.product import proper_step
from svae.objective.bound import Gradients
from svae.objective.model import Generative, Parameters
from svae.training.adam import AdamState, adam_step
from svae.training.settings import Settings

__all__ = ["update"]


def update(
    model: Generative,
    parameters: Parameters,
    adam: AdamState,
    gradients: Gradients,
    settings: Settings,
) -> tuple[Parameters, AdamState, int]:
    """Move the networks by Adam, and q(theta) along its natural gradient.

    Parameters
    ----------
    model : Generative
    parameters : Parameters
    adam : AdamState
        Moments of the gradients of encoder and decoder.
    gradients : Gradients
        Ascent directions, for the whole data.
    settings : Settings
        Of which ``learning_rate`` and ``natural_step`` count.

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
        (encoder, decoder), adam = adam_step(
            (parameters.encoder, parameters.decoder),
            (gradients.encoder, gradients.decoder),
            adam,
            settings.learning_rate,
        )
    except FloatingPointError as error:
        raise FloatingPointError(
            "the gradient of the networks is not finite"
        ) from error
    natparams, backtracks = proper_step(
        model.latent.family,
        parameters.natparams,
        gradients.natparams,
        settings.natural_step,
    )
    return Parameters(natparams, encoder, decoder), adam, backtracks
