"""Which token positions are compared, and why each was chosen."""
