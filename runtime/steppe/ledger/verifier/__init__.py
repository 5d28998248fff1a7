"""How does a customer check a receipt without this package?"""
