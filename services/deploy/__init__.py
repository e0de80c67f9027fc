"""From plans to Serve applications, and the life of a cluster."""
