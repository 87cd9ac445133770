"""The one family of errors that a user can mend."""


class InputError(ValueError):
    """Something the user gave (a value, a file, a flag) cannot be used.

    The message says what was expected, what came, and what to do next. Entry points print it
    without a traceback; any other exception is a bug and shows one.

    Example:
      >>> raise InputError("vocab_size is 200: it must be at least 259; raise vocab_size")
      Traceback (most recent call last):
      ...
      lmcore.errors.InputError: vocab_size is 200: it must be at least 259; raise vocab_size
    """
