"""The bound of a model on a batch, and its gradients.

`model` says what a model is made of, `batch` what a step is about, `local` finds the
local factor and the likelihood of a batch, and `bound` adds what is global and
differentiates it: the natural gradient of Eq. (4) is an ordinary gradient in the
message m.
"""
