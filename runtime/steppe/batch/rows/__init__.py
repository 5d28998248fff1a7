"""What does each line of an input ask for?"""
