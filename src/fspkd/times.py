"""Human-readable times."""


def duration(seconds: float, form: str = ".3g") -> str:
    """A time in the unit that fits it."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:{form}} {unit}"
    return f"{seconds:{form}} seconds"
