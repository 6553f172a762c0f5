"""Several methods and seeds under one protocol."""
