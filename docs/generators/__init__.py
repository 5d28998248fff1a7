"""Which reference pages can be derived from the code?"""
