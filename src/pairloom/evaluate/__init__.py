"""A model to numbers."""
