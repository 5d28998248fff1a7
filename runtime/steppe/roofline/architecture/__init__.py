"""What does a model make a GPU stream and compute? Its `config.json`, as numbers."""
