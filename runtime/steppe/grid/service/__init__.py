"""How does a run listen to the grid, and what does the grid see of it?"""
