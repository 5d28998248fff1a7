"""What does one replica run? vLLM or transformers under live limits, or a synthetic engine."""
