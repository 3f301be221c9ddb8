"""What brings items up to date: the same for every stage."""
