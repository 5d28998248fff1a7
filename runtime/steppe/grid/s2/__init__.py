"""How does a site speak S2 (EN 50491-12-2) with an energy manager?"""
