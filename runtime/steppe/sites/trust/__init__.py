"""How does a site know another one: certificates, tokens of tenants, and checked claims?"""
