"""The playroom: a small generated world in which every answer can be checked (pictures so far)."""
