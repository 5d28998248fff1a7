"""Which site owes which other one how much energy, and do the logs of both say the same?"""
