"""What was written, in which order, and how does a customer check that?"""
