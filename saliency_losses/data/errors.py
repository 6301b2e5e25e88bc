"""What is raised for data that cannot be used."""

__all__ = ["DataError"]


class DataError(ValueError):
    """A table, a row or a file that cannot be used; the message names it and says what to do.

    Example:
        >>> str(DataError("train.csv line 3: image 'a.png' is missing."))
        "train.csv line 3: image 'a.png' is missing."
    """
