"""What does the controller of a fleet know of the grid?"""
