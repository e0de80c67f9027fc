"""Torch blocks that several components share."""
