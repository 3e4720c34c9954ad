"""The command line: `svae fit`, and what one asks of a run.

`parser` has the commands and their options, `settings` what a fit is made of; `fit`,
`queries`, `timing` and `crosscheck` are the commands, `output` what they print and
draw.  `runs` is the folder of a fit, `config` reads settings from a file, `selfcheck`
checks gradients.
"""
