"""What would keep a run from working here? Facts, checks of them, and the report."""
