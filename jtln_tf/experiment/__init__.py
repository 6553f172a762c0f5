"""The composition root: `run.py` reads like a table of contents. `config.py` imports no TensorFlow."""
