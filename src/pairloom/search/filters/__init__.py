"""Conditions on metadata: the language, what they mean, and how they are answered."""
