"""Raw dumps to pairs: a module a corpus, a generator a view."""
