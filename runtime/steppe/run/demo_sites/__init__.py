"""How do three sites on one machine share a compressed day?"""
