"""Which requests go to another site, and how do they come back?"""
