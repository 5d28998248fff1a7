"""What can wait? Jobs of many rows, their store, and how they run when power is there."""
