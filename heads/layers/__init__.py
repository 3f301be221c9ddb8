"""Parts that heads share, yours too: DVC watches this folder, a change trains anew."""
