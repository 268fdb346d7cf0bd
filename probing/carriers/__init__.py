"""Prompt + response records: read, graded, stratified, sampled."""
