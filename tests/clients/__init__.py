"""Calls a running server with the clients of other servers. `run.py` runs them; each module holds one or two."""
