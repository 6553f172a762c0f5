"""The metrics of class costs: one file each."""
