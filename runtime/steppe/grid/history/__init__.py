"""What did the site draw, by the second for days and by the ten seconds for months?"""
