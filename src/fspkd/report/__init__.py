"""Results from finished runs. Each kind of figure or time comparison is a module of that name (see kinds.py)."""
