"""What does an event of the grid ask, and can the site comply?"""
