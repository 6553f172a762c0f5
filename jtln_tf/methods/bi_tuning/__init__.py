"""Bi-tuning: the method, and the keys that it contrasts images with."""
