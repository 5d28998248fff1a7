"""Which site should run it?"""
