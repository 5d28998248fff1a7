"""Which operating points should run now? Stages, each a function of the observation."""
