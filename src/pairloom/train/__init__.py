"""Pairs to a model."""
