"""What experiments leave, compared and shown."""
