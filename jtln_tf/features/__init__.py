"""Features: the images of a domain through a model, as arrays."""
