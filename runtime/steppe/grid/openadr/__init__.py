"""What does an OpenADR 3.1 server ask of the site, and what does it get?"""
