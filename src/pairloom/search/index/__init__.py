"""Indexes of vectors: files that are derived from them, and searched."""
