"""Training by any method: the Keras model, what happens between its steps, and what a run must remember."""
