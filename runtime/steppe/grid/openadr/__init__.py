"""What does an OpenADR 3.1 server ask of the site, and what do we tell it?"""
