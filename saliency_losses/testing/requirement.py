"""How a broken contract is reported."""

__all__ = ["require"]


def require(held: bool, what: str) -> None:
    """Raise ``AssertionError`` unless ``held``; the message says what must be.

    Example:
        >>> require(False, "must return finite maps")
        Traceback (most recent call last):
        AssertionError: The contract is broken: must return finite maps.
    """
    if not held:
        raise AssertionError(f"The contract is broken: {what}.")
