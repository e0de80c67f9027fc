"""The command ``anyplex``."""
