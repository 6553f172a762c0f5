"""Programs: flags -> configuration -> one call. Run them as `python -m tools.NAME` from the repository root."""
