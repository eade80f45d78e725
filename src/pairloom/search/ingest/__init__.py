"""From files to collections."""
