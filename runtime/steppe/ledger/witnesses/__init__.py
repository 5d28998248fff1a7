"""Who else signs the heads of a log?"""
