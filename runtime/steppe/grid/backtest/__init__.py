"""What would a plan of the markets have cost and earned on days that are over?"""
