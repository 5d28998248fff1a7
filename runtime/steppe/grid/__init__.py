"""What does the grid ask, and what do we offer it?"""
