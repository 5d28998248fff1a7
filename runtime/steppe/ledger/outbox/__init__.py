"""Which systems of others get the event of each receipt, and once only?"""
