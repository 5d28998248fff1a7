"""DSX Flex: load targets from the grid, status and breach alerts to it, signed, over MQTT."""
