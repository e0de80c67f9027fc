"""What changes the versions that run: canaries, gates, and what an operator asks for."""
