"""What pairloom claims, as programs that anyone can run."""
