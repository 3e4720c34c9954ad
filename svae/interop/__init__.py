"""The chains inside of other frameworks that differentiate.

`svae.interop.jax`, `svae.interop.torch` and `svae.interop.pytensor` have the functions
of `svae.kernels` and of `svae.standard` by the same names, with the same arguments and
the same meaning, on the arrays of a framework, and are known to its transformations.
Each is a module that is imported by its name, and needs its framework, which is an
extra: ``pip install "svae[torch]"``.  Nothing else in the package imports this room.

`rules` says in NumPy what the doors to PyTorch and PyTensor have in common: forward
passes, their adjoints, and the adjoints of these.
"""
