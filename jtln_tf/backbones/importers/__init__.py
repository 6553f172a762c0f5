"""Readers of published weights in foreign formats."""
