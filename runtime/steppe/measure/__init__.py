"""What can this hardware do? Sweeps, probes, statistics and comparisons."""
