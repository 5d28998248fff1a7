"""What does a job write, and how far is it?"""
