"""What several metrics compute with. Imports no TensorFlow."""
