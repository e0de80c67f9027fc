"""What changes which versions run: swaps of version sets, and going back."""
