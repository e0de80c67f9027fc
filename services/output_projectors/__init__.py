"""Output projectors: from the states of signal tokens to what a generator is conditioned by."""
