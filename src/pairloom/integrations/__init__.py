"""Encoders and collections in other people's frameworks: a module for each, which imports that framework and nothing else does."""
