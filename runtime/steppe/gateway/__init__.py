"""Who is served, where and when? The OpenAI-compatible HTTP endpoint, admission and routing."""
