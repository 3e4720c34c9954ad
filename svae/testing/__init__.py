"""What tests of this package, and of others beside it, are made of."""
