"""The engine: one scalar, and the methods that use it."""
