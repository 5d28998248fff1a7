"""What is one GPU and its knobs? NVML, RAPL, inventory, recordings."""
