"""How to put a problem to each package that is compared, and to this one."""
