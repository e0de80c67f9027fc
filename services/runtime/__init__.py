"""What every process of the service needs: host, directory, caller, tensors, interceptors, telemetry, settings."""
