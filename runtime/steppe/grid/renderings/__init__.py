"""How does one offer read in the languages of the grid?

Each module has one function. None of them changes the offer, and none rounds watts up.
"""
