"""Which rows of which job are done?"""
