"""How many replicas stay warm, and what does the battery do, over the day ahead?"""
