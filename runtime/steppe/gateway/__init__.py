"""Who may ask, and who answers? The OpenAI-compatible HTTP door, admission and routing."""
