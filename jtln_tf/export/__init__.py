"""A trained network as a SavedModel that serves raw images."""
