"""Bytes as a person reads them."""


def size(n_bytes: float) -> str:
    """Bytes for people, in powers of 1,000.

    Example:
      >>> size(999), size(12_300_000), size(999_999_999)
      ('999 B', '12.3 MB', '1.0 GB')
    """
    for unit in ("B", "kB", "MB", "GB", "TB", "PB", "EB"):
        if n_bytes < 999.95 or unit == "EB":  # what rounds to 1,000 is one of the next unit
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    raise AssertionError
