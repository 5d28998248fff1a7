"""How many watts may we draw? Supply traces, sun, wind, battery, forecast, budget."""
