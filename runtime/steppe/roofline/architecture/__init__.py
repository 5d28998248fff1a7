"""What does a model stream and compute? Its `config.json`, as numbers."""
