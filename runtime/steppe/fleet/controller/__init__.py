"""What runs the control loop over a live fleet? The controller actor."""
