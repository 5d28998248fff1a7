"""Which resource costs which joules? Triton probe kernels and their plain references."""
