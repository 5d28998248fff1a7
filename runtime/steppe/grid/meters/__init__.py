"""What do the meters of the site read?"""
