"""What must not be known: the bearer token, and the redactor that keeps secrets out of everything that is
written.

Promise: a token comes into being whole, private and once; a registered value passes no redactor in any of its
usual spellings. It may import the errors and the standard library.
"""

from goclaw.secrets.redact import MARKER, Redactor
from goclaw.secrets.token import Token, ensure_token, read_token

__all__ = ["MARKER", "Redactor", "Token", "ensure_token", "read_token"]
