"""How many watts does the grid allow, whatever happens to its link, this process or the clock?"""
