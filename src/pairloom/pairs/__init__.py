"""Pairs to batches: clean text, shards, hold-out, the order in which pairs are drawn."""
