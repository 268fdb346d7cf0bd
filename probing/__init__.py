"""Probing: what fine-tuning did to a language model, token by token."""
