"""Runs: their specifications, and what their folders hold. Imports no torch."""
