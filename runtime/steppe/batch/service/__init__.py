"""What may a client do with jobs over HTTP?"""
