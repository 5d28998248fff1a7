"""What do several gateways of one run share?"""
