"""What can the site offer the grid, and is it still free?"""
