"""Who owes what to whom?"""
