"""What a user did wrong, as one sentence."""


class UserError(ValueError):
    """A mistake in a recipe, a path or an argument; the command line prints the message alone, without a traceback.

    The message names the offending field or file, its value, and what would be right.
    """
