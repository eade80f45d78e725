"""Models and collections over HTTP: what OpenAI's clients speak, a search, and a page to try both on."""
