"""Who may set clocks, and what undoes them? The privileged process, its leases and clients."""
