"""Generators: conditioning in, a picture, a film or a sound out."""
