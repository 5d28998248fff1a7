"""What does one replica do in virtual time? Steps, batches, energy."""
