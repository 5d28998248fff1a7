"""What should the site buy, store, run and offer in each quarter of an hour?"""
