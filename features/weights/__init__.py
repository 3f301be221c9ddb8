"""The one kind of weights file that every network reads."""
