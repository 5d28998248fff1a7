"""What do people look at? The live page of a gateway, and the page of a record."""
