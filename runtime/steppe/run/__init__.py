"""What makes one run? The parts of a live or a simulated run, put together."""
