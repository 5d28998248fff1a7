"""Who spent how many joules? Meters, windows, attribution to requests, totals."""
