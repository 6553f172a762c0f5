"""Runs one experiment. `run.py` shows all its steps; `config.py` and `workdir.py` import no TensorFlow."""
