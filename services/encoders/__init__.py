"""Modality encoders: media in, features out."""
