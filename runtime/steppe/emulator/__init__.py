"""What if there is no GPU? An emulated libnvidia-ml.so.1."""
