"""Where do weights come from? A hub, a local folder, a GGUF file, the shipped small model."""
