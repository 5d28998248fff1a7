"""What did a run achieve? Records, latency, tracking score, figures."""
