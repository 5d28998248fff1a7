"""What would the driver answer if there were a GPU? An emulated libnvidia-ml.so.1."""
