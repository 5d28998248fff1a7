"""Which events were there, what did each change, and where is its report?"""
