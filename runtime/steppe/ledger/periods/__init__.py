"""Does each hour's energy add up to its meters, and is no hour missing?"""
