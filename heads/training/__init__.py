"""How heads are trained, and on what."""
