"""How does one user run a job whose store lies beside its output?"""
