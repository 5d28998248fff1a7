"""What starts a fleet, watches it and takes it down? The process that the user started."""
