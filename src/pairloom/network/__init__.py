"""The torch engine: an encoder built from an architecture and canonical weights."""
