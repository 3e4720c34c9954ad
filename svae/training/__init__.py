"""Training: from a data set to fitted parameters.

`loop` is a whole fit, with its warm-up, restarts, scores and checkpoints; `step` draws
a batch and updates all parameters; `batches` cuts windows and draws all that is random;
`workers` evaluates windows, here or in other processes; `adam` moves the networks.
"""
