"""The one error that near_monai raises for input it cannot use."""


class NearError(ValueError):
    """Input that cannot be used: the message says what, where, what was expected and what to do, in one line."""
