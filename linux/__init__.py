"""System calls and processes that the standard library lacks: the only places that mount and that spawn programs."""
