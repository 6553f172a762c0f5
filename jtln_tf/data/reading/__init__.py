"""Reads images: what a split holds for them, and how they are decoded."""
