"""Which operating points should run now? The stages are in `pipeline.py`."""
