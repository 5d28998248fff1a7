"""What can this hardware do? Sweeps over operating points."""
