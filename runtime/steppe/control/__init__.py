"""Which operating point should run now? Pure decisions: no I/O, no clock, no chance."""
