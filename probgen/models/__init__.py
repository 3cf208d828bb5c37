"""Models: one file, one model, one registry name."""
