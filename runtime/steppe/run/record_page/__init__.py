"""How does a person look at recorded runs? As a page: in a folder, or from this machine."""
