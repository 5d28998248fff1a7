"""What are the constants of one GPU? Probes at known rates, and the GPU file."""
