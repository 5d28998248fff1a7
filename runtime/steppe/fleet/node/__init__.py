"""What does one machine do? Its actor: meters, replicas, clock limits."""
