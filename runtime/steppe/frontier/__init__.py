"""What can each watt buy? Operating points and the frontier that no point beats."""
