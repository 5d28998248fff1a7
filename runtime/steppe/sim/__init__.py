"""What would the fleet do? The same control loop over replicas in virtual time."""
