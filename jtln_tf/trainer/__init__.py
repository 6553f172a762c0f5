"""Training: the Keras model, callbacks, optimizers and checkpoints."""
