"""Runnable examples; nothing in here is part of the installed package."""
