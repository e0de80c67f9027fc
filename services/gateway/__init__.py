"""The public edge: runs the plan of a request, streams what comes of it."""
