"""What did an event change, and how sure is that?"""
