"""Do the books hold, entry by entry and to the last microjoule?"""
