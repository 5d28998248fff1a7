"""How much of the energy of each hour was green, and whose is it?"""
