"""How do the rows of a job get to a gateway and back?"""
