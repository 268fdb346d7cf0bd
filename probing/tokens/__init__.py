"""Tokenizer adapter: encode with offsets, templates, bytes of an id."""
