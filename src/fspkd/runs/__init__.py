"""Runs: what decides one, and what its folder holds. Imports no torch."""
