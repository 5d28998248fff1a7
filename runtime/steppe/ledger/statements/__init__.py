"""What does a tenant pay for a month, and for what?"""
