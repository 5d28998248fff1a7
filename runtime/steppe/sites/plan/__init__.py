"""How much should each site send to each other one in the next hours?"""
