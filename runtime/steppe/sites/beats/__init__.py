"""How do sites hear of each other: what is in a heartbeat, how it travels, and what it shows?"""
