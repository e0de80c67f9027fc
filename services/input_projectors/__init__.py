"""Input projectors: features in, what the backbone reads out."""
