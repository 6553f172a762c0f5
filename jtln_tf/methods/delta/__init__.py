"""DELTA: the method, and what its attention is measured by."""
