"""What do the HTTP services of a run have in common: their errors, their caller, their folder?"""
