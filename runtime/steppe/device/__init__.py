"""Which knobs does one GPU have? NVML, RAPL, the agent and its dead-man lease, the emulator."""
