"""What does the site offer the grid, and what has it promised?"""
