"""What did a job cost, and when did it run? Its timeline, totals and one page about them."""
