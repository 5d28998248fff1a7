"""What does a run do about the plan of the markets?"""
