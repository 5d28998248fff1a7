"""What starts, watches and stops a fleet? The process that the user started."""
