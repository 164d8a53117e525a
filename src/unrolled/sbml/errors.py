"""What can be wrong with a file."""


class SBMLError(ValueError):
    """A file that is no SBML, or SBML that breaks its own rules; the message names the element and the line."""


class UnsupportedError(SBMLError):
    """Correct SBML that this package does not compute; the message names the element. Never a wrong number instead."""
