"""What one asks of a fitted model: posteriors, scores, forecasts, imputed values."""
