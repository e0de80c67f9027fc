"""The Ray Serve side of Anyplex: components, runtime, gateway, trainers, command line."""
