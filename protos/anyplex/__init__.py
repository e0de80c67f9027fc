"""Client and contracts of Anyplex."""
