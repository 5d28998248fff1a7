"""What does a replica give at each operating point? The sweep and its results."""
