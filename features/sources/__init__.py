"""Where weights come from: only the weights stage reads this."""
