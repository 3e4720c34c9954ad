"""Mistakes in latent models: bounds, natural gradients, families."""
