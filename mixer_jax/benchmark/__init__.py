"""How fast the parts of a training are, each by itself."""
