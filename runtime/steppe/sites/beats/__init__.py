"""How do sites show themselves to each other: what is in a beat, how it travels, what it shows?"""
