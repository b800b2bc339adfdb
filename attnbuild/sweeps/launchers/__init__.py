"""Launchers: what starts jobs, and where."""
