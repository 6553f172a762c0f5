"""Performance, measured: each module is a program that prints figures and writes them as JSON."""
