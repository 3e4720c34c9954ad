"""Training: from a data set to fitted parameters.

`plan` is what stays the same from start to end.  `loop` is a whole fit, with its
warm-up, restarts, scores and where it stops; `step` draws a minibatch, has its
gradients evaluated and updates all parameters; `gradients` is what windows contribute,
and `workers` has other processes find it; `update` moves q(theta) and, with `adam`, the
networks.  `batches` cuts windows and draws all that is random.  `checkpoint` keeps the
state of a fit in a folder, and `validation` checks what is read back.
"""
