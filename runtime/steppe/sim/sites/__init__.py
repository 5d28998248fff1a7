"""What would several sites do, each with its own wind and sun? Their fleets in one virtual time."""
