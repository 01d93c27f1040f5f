"""Models, the families that they belong to, and what they cost."""
