"""Attacks on a running server. `run.py` runs them; each module holds one kind."""
