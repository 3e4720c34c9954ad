"""What autograd lacks: several outputs pulled back at once, trees, a few operations.

`primitive` records functions and arithmetic with less bookkeeping than autograd does,
`vjp` pulls cotangents of several outputs back in one sweep, `tuples` lets a primitive
return arrays of different shapes, `trees` walks nested parameters, and `operations` has
array operations that are one node of a trace instead of many.
"""
