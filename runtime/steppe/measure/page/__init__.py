"""What does the report of a sweep look like? One HTML page."""
