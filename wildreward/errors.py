"""The one exception the command line turns into a single line for the user."""


class UserError(Exception):
    """Something the user can put right. The message says what came, what was expected and what to do."""
