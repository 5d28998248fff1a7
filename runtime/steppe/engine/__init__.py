"""What does one replica run? vLLM with a live scheduler, and a synthetic engine."""
