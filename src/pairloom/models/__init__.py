"""What a model is: its folder, architecture, weights, tokenizer and name. No engine in it."""
