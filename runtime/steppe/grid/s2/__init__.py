"""How is a site connected to an energy manager by S2 (EN 50491-12-2)?"""
