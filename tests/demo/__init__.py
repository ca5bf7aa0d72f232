"""`make demo`: the appliance on a throw-away host, from nothing to a container that prints a line."""
