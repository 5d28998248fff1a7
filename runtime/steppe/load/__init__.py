"""What do users ask, and how fast? Arrivals from traces, and a client that replays them."""
